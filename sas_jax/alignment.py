"""Algorithm 1: imagine, score, choose a prompt, for one episode at a time.

Works with any `SequenceModel`; callers vmap over episodes. All variants of an episode
share the first loop's imaginations.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sas_jax import lyapunov
from sas_jax.diagnostics import Diagnostics, diagnose, empty_diagnostics, mean_found
from sas_jax.errors import UserError
from sas_jax.imagination import imagine_with, segment
from sas_jax.risk import RiskModel, select_by_risk
from sas_jax.seam import Prompt, SequenceModel, make_room, split_keys
from sas_jax.settings import RULES, VARIANTS, SASConfig, check_variants
from sas_jax.types import Key, Params, StepOutput, Trajectory

__all__ = ["VARIANTS", "SASConfig", "align", "check_variants"]  # some by other modules


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


class Alignment(NamedTuple):
    """Everything Algorithm 1 made for one episode.

    prompts, diagnostics: `[V]`, one entry per variant in the order asked for.
    Of the first run, where there are several fragments:
    first: the first loop. second: dict rule -> second loop `[M, T]`.
    first_choices, second_choices: dict variant -> Choice.
    """

    prompts: Prompt | None
    diagnostics: Diagnostics
    first: Loop
    second: dict[str, Loop]
    first_choices: dict[str, Choice]
    second_choices: dict[str, Choice]


def run_loop(
    model, variables, config, horizon, keys, state, prompt, num_steps=None
) -> Loop:
    """Imagines from `state` (one trajectory) once per key and scores every step.

    num_steps: `[]` steps until the episode ends, at least 1; None means no fewer than
    the horizon. Later steps are in no energy, and hold the energy of the last one.
    """
    count = keys.shape[0]
    state = _copies(state, count)
    outputs, _ = imagine_with(model, variables, keys, state, prompt, horizon=horizon)
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


def align(
    model: SequenceModel,
    variables: Params,
    key: Key,
    state: Any,
    cost_limits: jax.Array,
    *,
    config: SASConfig,
    variants: tuple[str, ...],
    horizon: int,
    max_cost: float = 1.0,
    risk_model: RiskModel | None = None,
) -> Alignment:
    """Algorithm 1 from one state: imagine N, choose, imagine M more, choose a prompt.

    Args:
      model: any sequence policy that offers the step functions.
      variables: its parameters.
      key: consumed; the i-th imagination depends on (key, i) only.
      state: where the episode stands, one trajectory (leading axis 1).
      cost_limits: `[C]` thresholds d at which the invariant set is reported.
      config: settings; `horizon` is T with 0 resolved.
      variants: static tuple of names out of `VARIANTS`.
      max_cost: C_max, the largest cost of a step.
      risk_model: cost critic of the variants that choose by one.

    Returns:
      `Alignment`. A variant whose candidates all have a non-finite energy gets the
      empty prompt and `prompt_ok` 0, never a NaN. With several fragments, a run without
      a valid candidate repeats the segment of the first run that has one.
    """
    length = config.prompt_length
    if horizon < length:
        raise UserError(
            f"horizon {horizon} is shorter than the prompt ({length} steps)"
        )

    def run(key):
        return _run(
            model,
            variables,
            key,
            state,
            cost_limits,
            config=config,
            variants=variants,
            horizon=horizon,
            max_cost=max_cost,
            risk_model=risk_model,
        )

    if config.fragments == 1:
        fragments, *details = run(key)
    else:
        fragments, *details = jax.lax.map(run, fragment_keys(key, config.fragments))
        fragments = {v: join(f) for v, f in fragments.items()}
        details = jax.tree.map(lambda x: x[0], details)
    prompts, diagnostics = [], []
    for variant in variants:
        fragment = fragments.get(variant)
        if fragment is None:
            prompts.append(None)
            diagnostics.append(empty_diagnostics(cost_limits.shape[0]))
            continue
        prompts.append(model.encode_prompt(variables, fragment.segment, fragment.found))
        diagnostics.append(fragment.diagnostics)
    present = [p for p in prompts if p is not None]
    if present:
        empty = jax.tree.map(jnp.zeros_like, present[0])
        prompts = jax.tree.map(
            lambda *x: jnp.stack(x), *[empty if p is None else p for p in prompts]
        )
    else:
        prompts = None
    diagnostics = jax.tree.map(lambda *x: jnp.stack(x), *diagnostics)
    return Alignment(prompts, diagnostics, *details)


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


def _run(
    model,
    variables,
    key,
    state,
    cost_limits,
    *,
    config,
    variants,
    horizon,
    max_cost,
    risk_model,
):
    """Algorithm 1 once: variant -> Fragment, and the loops and choices."""
    length = config.prompt_length
    first_keys, second_keys, random_key = loop_keys(key, config)
    first = run_loop(model, variables, config, horizon, first_keys, state, None)
    rules = {v: RULES[v] for v in variants if RULES[v] is not None}
    first_choices, second, second_choices = {}, {}, {}
    for variant, (rule, _, _) in rules.items():
        if rule == "random":
            choice = random_choice(random_key, first.energies, length)
        elif rule == "risk":
            choice = risk_choice(model, variables, risk_model, config, first, horizon)
        else:
            selection = lyapunov.select_first(first.energies, rule=rule)
            choice = bounded(selection, length, horizon)
        first_choices[variant] = choice
    # One second loop per first prompt, all in one program: variants that differ only in
    # how they score the M imaginations share them.
    loops = {rule: v for v, (rule, is_second, _) in rules.items() if is_second}
    if loops:
        prompted = make_room(model, state, length)
        prompts = []
        for variant in loops.values():
            choice = first_choices[variant]
            found = choice.selection.is_valid
            steps = cut(first, choice, found, length)
            prompts.append(model.encode_prompt(variables, steps, found))
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *prompts)
        # One after another, not side by side: a prompt's imaginations then have the
        # same shapes, and so the same bits, whichever other variants are asked for.
        runs = jax.lax.map(
            lambda prompt: run_loop(
                model, variables, config, horizon, second_keys, prompted, prompt
            ),
            stacked,
        )
        second = {
            rule: jax.tree.map(lambda x, i=i: x[i], runs)
            for i, rule in enumerate(loops)
        }
    fragments = {}
    for variant, (rule, is_second, score) in rules.items():
        choice, loop = first_choices[variant], first
        level, found = choice.selection.level, choice.selection.is_valid
        if is_second:
            loop = second[rule]
            if score == "risk":
                choice = risk_choice(
                    model, variables, risk_model, config, loop, horizon
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
            max_cost=max_cost,
            config=config,
        )
        fragments[variant] = Fragment(cut(loop, choice, found, length), found, seen)
    return fragments, first, second, first_choices, second_choices


def join(fragments: Fragment) -> Fragment:
    """The fragments `[F]` of several runs -> one of F x L steps (see `align`)."""
    found, first = fragments.found, jnp.argmax(fragments.found)

    def spread(x):
        wide = found.reshape(-1, *(1,) * (x.ndim - 1))
        x = jnp.where(wide, x, x[first][None])
        return x.reshape(-1, *x.shape[2:])

    diagnostics = mean_found(fragments.diagnostics, found)
    return Fragment(jax.tree.map(spread, fragments.segment), found.any(), diagnostics)
