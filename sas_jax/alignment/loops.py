"""The parts of Algorithm 1: its loops, its choices and the segments it cuts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sas_jax.alignment import lyapunov
from sas_jax.alignment.config import RULES, SASConfig
from sas_jax.alignment.diagnostics import (
    Diagnostics,
    diagnose,
    empty_diagnostics,
    mean_found,
)
from sas_jax.alignment.gate import RiskModel, select_by_risk
from sas_jax.alignment.imagination import imagine, segment
from sas_jax.alignment.sequence_model import Prompt, SequenceModel
from sas_jax.errors import UserError
from sas_jax.gaussian import split_keys
from sas_jax.types import Key, StepOutput, Trajectory


class Loop(NamedTuple):
    """One loop of Algorithm 1: imaginations `[N, T]` and their energies `[N, T]`."""

    outputs: StepOutput
    energies: jax.Array


class Choice(NamedTuple):
    """A variant's selection in a loop, and the half-open bounds of its segment."""

    selection: lyapunov.Selection
    start: jax.Array
    end: jax.Array


class Fragment(NamedTuple):
    """What one run of Algorithm 1 chose: `L` steps, whether it found any, and why."""

    segment: Trajectory
    found: jax.Array
    diagnostics: Diagnostics


class Task(NamedTuple):
    """What one run of Algorithm 1 is asked for; all of it static.

    The arguments of `align` by the same names.
    """

    model: SequenceModel
    config: SASConfig
    variants: tuple[str, ...]
    horizon: int
    max_cost: float
    risk_model: RiskModel | None


def run_loop(
    model, variables, config, horizon, keys, state, prompt, num_steps=None
) -> Loop:
    """Imagines from `state` (one trajectory) once per key and scores every step.

    num_steps: `[]` steps until the episode ends, at least 1; None means no fewer than
    the horizon. Later steps are in no energy, and hold the energy of the last one.
    """
    count = keys.shape[0]
    state = _copies(state, count)
    outputs, _ = imagine(model.step, variables, keys, state, prompt, horizon=horizon)
    log_density = outputs.log_density + outputs.log_prob
    if num_steps is not None:
        is_inside = jnp.arange(horizon) < num_steps
        log_density = jnp.where(is_inside[None, :], log_density, -jnp.inf)
    energies = jax.vmap(
        lambda row: lyapunov.energy(
            row, discount=config.discount, window=config.energy_window
        )
    )(log_density)
    if num_steps is not None:
        energies = energies[:, jnp.minimum(jnp.arange(horizon), num_steps - 1)]
    return Loop(outputs, energies)


def _copies(state, count):
    """One trajectory's state -> `count` copies; what is common to all stays as is."""
    return jax.tree.map(
        lambda x: x if x.ndim == 0 else jnp.broadcast_to(x, (count, *x.shape[1:])),
        state,
    )


def random_choice(key, energies, length, num_steps=None) -> Choice:
    """A random valid trajectory and a random segment of it (the `rand` control)."""
    num, horizon = energies.shape
    index_key, end_key = jax.random.split(key)
    is_valid = jnp.all(jnp.isfinite(energies), axis=1)
    rank = jnp.where(is_valid, jax.random.uniform(index_key, (num,)), jnp.inf)
    index = jnp.argmin(rank).astype(jnp.int32)
    last = horizon if num_steps is None else jnp.clip(num_steps, length, horizon)
    end = jax.random.randint(end_key, (), length, last + 1)
    level = jnp.where(is_valid[index], energies[index].max(), 0.0)
    selection = lyapunov.Selection(index, end, level, level, is_valid[index])
    return Choice(selection, end - length, end)


def bounded(selection, length, horizon) -> Choice:
    """A selection with the segment that ends at its peak."""
    bounds = lyapunov.segment_bounds(selection.peak, length=length, horizon=horizon)
    return Choice(selection, *bounds)


def cut(loop: Loop, choice: Choice, found, length) -> Trajectory:
    """The chosen segment `[L]`, zeros where nothing was found.

    A disqualified trajectory may hold NaN, which a weight of zero does not hide.
    """
    steps = segment(loop.outputs, choice.selection.index, choice.start, length)
    return jax.tree.map(lambda x: jnp.where(found, x, jnp.zeros_like(x)), steps)


def loop_keys(key: Key, config: SASConfig) -> tuple[Key, Key, Key]:
    """Keys of the first loop `[N]`, of the second `[M]`, and of the random choice."""
    return (
        split_keys(jax.random.fold_in(key, 0), config.num_first),
        split_keys(jax.random.fold_in(key, 1), config.num_second),
        jax.random.fold_in(key, 2),
    )


def fragment_keys(key: Key, count: int) -> Key:
    """Keys `[count]` of independent runs; the first is `key` itself."""
    later = jax.vmap(lambda i: jax.random.fold_in(key, 100 + i))(jnp.arange(1, count))
    return jnp.concatenate([key[None], later])


def risk_choice(
    model, variables, risk_model, config, loop, horizon, num_steps=None
) -> Choice:
    """The choice of a cost critic in a loop; its segment ends at the energy's peak."""

    def step_risk(step):
        obs, action = step
        return risk_model.risk(variables, model.standardise(obs), action)

    # Step by step: a critic's hidden layers over all steps of all episodes at once
    # would take gigabytes.
    steps = loop.outputs.obs, loop.outputs.action
    risk = jax.lax.map(step_risk, jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), steps))
    risk = jnp.moveaxis(risk, 0, 1)
    selection = select_by_risk(
        loop.energies, risk, penalty=config.risk_penalty, num_steps=num_steps
    )
    return bounded(selection, config.prompt_length, horizon)


def _rules(task):
    """The variants that have a prompt, and their rules."""
    return {v: RULES[v] for v in task.variants if RULES[v] is not None}


def second_rules(task: Task) -> dict[str, str]:
    """Rule of a first selection with a second loop -> a variant that has it."""
    return {rule: v for v, (rule, is_second, _) in _rules(task).items() if is_second}


def choose_first(task: Task, variables, key: Key, first: Loop) -> dict[str, Choice]:
    """Variant -> its choice in the first loop. key: of the random one."""
    config, horizon = task.config, task.horizon
    choices = {}
    for variant, (rule, _, _) in _rules(task).items():
        if rule == "random":
            choice = random_choice(key, first.energies, config.prompt_length)
        elif rule == "risk":
            choice = risk_choice(
                task.model, variables, task.risk_model, config, first, horizon
            )
        else:
            selection = lyapunov.select_first(first.energies, rule=rule)
            choice = bounded(selection, config.prompt_length, horizon)
        choices[variant] = choice
    return choices


def first_prompts(
    task: Task, variables, first: Loop, choices: dict[str, Choice]
) -> Prompt | None:
    """The prompts of the second loops, stacked by rule; None without such loops."""
    prompts = []
    for variant in second_rules(task).values():
        choice = choices[variant]
        found = choice.selection.is_valid
        steps = cut(first, choice, found, task.config.prompt_length)
        prompts.append(task.model.encode_prompt(variables, steps, found))
    if not prompts:
        return None
    return jax.tree.map(lambda *x: jnp.stack(x), *prompts)


def conclude(
    task: Task,
    variables,
    first: Loop,
    second: dict[str, Loop],
    first_choices: dict[str, Choice],
    cost_limits: jax.Array,
) -> tuple[dict[str, Fragment], dict[str, Choice]]:
    """Variant -> its segment, and its choice in the second loop if it has one."""
    config, horizon = task.config, task.horizon
    length = config.prompt_length
    fragments, second_choices = {}, {}
    for variant, (rule, is_second, score) in _rules(task).items():
        choice, loop = first_choices[variant], first
        level, found = choice.selection.level, choice.selection.is_valid
        if is_second:
            loop = second[rule]
            if score == "risk":
                choice = risk_choice(
                    task.model, variables, task.risk_model, config, loop, horizon
                )
            else:
                selection = lyapunov.select_second(
                    loop.energies, level, count_u=score == "uv"
                )
                choice = bounded(selection, length, horizon)
            second_choices[variant] = choice
            found = found & choice.selection.is_valid
        seen = diagnose(
            loop.energies,
            choice.selection,
            choice.start,
            level,
            found,
            cost_limits,
            max_cost=task.max_cost,
            config=config,
        )
        fragments[variant] = Fragment(cut(loop, choice, found, length), found, seen)
    return fragments, second_choices


def summarise(
    task: Task, variables, fragments: dict[str, Fragment], num_limits: int
) -> tuple[Prompt | None, Diagnostics]:
    """Prompts and diagnostics `[V]` in the variants' order; empty where there is none.

    Without any variant that has one, the prompts are None.
    """
    prompts, diagnostics = [], []
    for variant in task.variants:
        fragment = fragments.get(variant)
        if fragment is None:
            prompts.append(None)
            diagnostics.append(empty_diagnostics(num_limits))
            continue
        prompts.append(
            task.model.encode_prompt(variables, fragment.segment, fragment.found)
        )
        diagnostics.append(fragment.diagnostics)
    present = [p for p in prompts if p is not None]
    if present:
        empty = jax.tree.map(jnp.zeros_like, present[0])
        prompts = jax.tree.map(
            lambda *x: jnp.stack(x), *[empty if p is None else p for p in prompts]
        )
    else:
        prompts = None
    return prompts, jax.tree.map(lambda *x: jnp.stack(x), *diagnostics)


def task_of(
    model: SequenceModel,
    config: SASConfig,
    variants: tuple[str, ...],
    horizon: int,
    max_cost: float,
    risk_model: RiskModel | None,
) -> Task:
    """The task; UserError for a horizon that holds no prompt."""
    if horizon < config.prompt_length:
        raise UserError(
            f"horizon {horizon} is shorter than the prompt ({config.prompt_length} "
            "steps)"
        )
    return Task(model, config, variants, horizon, max_cost, risk_model)


def join(fragments: Fragment) -> Fragment:
    """The fragments `[F]` of several runs -> one of F x L steps (see `align`)."""
    found, first = fragments.found, jnp.argmax(fragments.found)

    def spread(x):
        wide = found.reshape(-1, *(1,) * (x.ndim - 1))
        x = jnp.where(wide, x, x[first][None])
        return x.reshape(-1, *x.shape[2:])

    diagnostics = mean_found(fragments.diagnostics, found)
    return Fragment(jax.tree.map(spread, fragments.segment), found.any(), diagnostics)
