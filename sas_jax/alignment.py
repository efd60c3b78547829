"""Algorithm 1: imagine, score, choose a prompt, for one episode at a time.

Works with any `SequenceModel`; callers vmap over episodes. All variants of an episode
share the first loop's imaginations.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from sas_jax import lyapunov
from sas_jax.errors import UserError, nearest
from sas_jax.imagination import imagine, segment
from sas_jax.stepping import Prompt, SequenceModel, split_keys
from sas_jax.types import Key, Params, StepOutput

# Variant -> (rule of the first selection, whether there is a second loop, what it is
# scored by). `null` is `none` with another action seed: the noise floor. `short` is
# `none` with the window that a pinned prompt leaves: what L steps of memory are worth.
_RULES: dict[str, tuple[str, bool, str] | None] = {
    "none": None,
    "null": None,
    "short": None,
    "rand": ("random", False, ""),
    "u": ("min", False, ""),
    "sas": ("min", True, "v"),
    "uv_sum": ("min", True, "uv"),
    "maxmax": ("max", True, "v"),
}
VARIANTS = tuple(_RULES)


@dataclasses.dataclass(frozen=True)
class SASConfig:
    """Settings of Algorithm 1; defaults are the paper's.

    num_first, num_second: N and M, imaginations of the two loops.
    prompt_length: L in steps. energy_window: H in steps. discount: gamma of the energy.
    horizon: T in steps; 0 means the task's episode length.
    density: "transition" or "marginal" (algorithm, section 3); num_importance samples.
    prompt_mode, prompt_extra: see `stepping.make`.
    decoder_noise: scale of the decoder's noise in imagination.
    concentrability: D of Eq. 7.
    sample_actions: act by sampling; False acts by the mean.
    target_return: return token at the start; None means the checkpoint's.
    """

    num_first: int = 5
    num_second: int = 5
    prompt_length: int = 5
    energy_window: int = 3
    discount: float = 0.99
    horizon: int = 0
    density: str = "transition"
    num_importance: int = 1
    prompt_mode: str = "pinned"
    prompt_extra: bool = False
    decoder_noise: float = 1.0
    concentrability: float = 1.0
    sample_actions: bool = True
    target_return: float | None = None

    def __post_init__(self):
        for name in ("num_first", "num_second", "prompt_length", "energy_window"):
            if getattr(self, name) < 1:
                raise UserError(f"sas.{name} must be >= 1, got {getattr(self, name)}")
        if not 0.0 < self.discount <= 1.0:
            raise UserError(f"sas.discount must lie in (0, 1], got {self.discount}")
        if self.concentrability <= 0:
            raise UserError(
                f"sas.concentrability must be > 0, got {self.concentrability}"
            )
        if self.horizon and self.horizon < self.prompt_length:
            raise UserError(
                f"sas.horizon {self.horizon} must be 0 (the episode length) or at "
                f"least prompt_length {self.prompt_length}"
            )


def check_variants(variants: tuple[str, ...]) -> tuple[str, ...]:
    """Returns `variants`; raises UserError for an unknown, repeated or missing one."""
    if not variants:
        raise UserError(f"variants: expected at least one of {', '.join(VARIANTS)}")
    for variant in variants:
        if variant not in _RULES:
            raise UserError(
                f"variants: unknown {variant!r}{nearest(variant, VARIANTS)} "
                f"(known: {', '.join(VARIANTS)})"
            )
    if len(set(variants)) != len(variants):
        raise UserError(f"variants: {','.join(variants)} names one twice")
    return tuple(variants)


@struct.dataclass
class Diagnostics:
    """What Algorithm 1 saw, for one prompt. NaN where a variant has no such thing.

    level: E-hat. score: sum of V (or U + V) of the chosen trajectory.
    mean_u, mean_v: share of its steps that meet conditions U and V (Eq. 8).
    invariant_share: `[C]` share of its steps inside R (Eq. 7) at each threshold.
    prompt_start: first step of the segment in imagination.
    prompt_ok: 1 when a prompt was found, 0 when every candidate was disqualified.
    """

    level: jax.Array
    score: jax.Array
    mean_u: jax.Array
    mean_v: jax.Array
    invariant_share: jax.Array
    prompt_start: jax.Array
    prompt_ok: jax.Array


class Loop(NamedTuple):
    """One loop of Algorithm 1: imaginations `[N, T]` and their energies `[N, T]`."""

    outputs: StepOutput
    energies: jax.Array


class Choice(NamedTuple):
    """A variant's selection in a loop, and the half-open bounds of its segment."""

    selection: lyapunov.Selection
    start: jax.Array
    end: jax.Array


class Alignment(NamedTuple):
    """Everything Algorithm 1 made for one episode.

    prompts, diagnostics: `[V]`, one entry per variant in the order asked for.
    first: the first loop. second: dict rule -> second loop `[M, T]`.
    first_choices, second_choices: dict variant -> Choice.
    """

    prompts: Prompt
    diagnostics: Diagnostics
    first: Loop
    second: dict[str, Loop]
    first_choices: dict[str, Choice]
    second_choices: dict[str, Choice]


def _run_loop(model, variables, config, horizon, keys, state, prompt):
    """Imagines from `state` (one trajectory) once per key and scores every step."""
    count = keys.shape[0]
    state = _copies(state, count)
    outputs, _ = imagine(model.step, variables, keys, state, prompt, horizon=horizon)
    log_density = outputs.log_density + outputs.log_prob
    energies = jax.vmap(
        lambda row: lyapunov.energy(
            row, discount=config.discount, window=config.energy_window
        )
    )(log_density)
    return Loop(outputs, energies)


def _copies(state, count):
    """One trajectory's state -> `count` copies; what is common to all stays as is."""
    return jax.tree.map(
        lambda x: x if x.ndim == 0 else jnp.broadcast_to(x, (count, *x.shape[1:])),
        state,
    )


def _random_choice(key, energies, length):
    """A random valid trajectory and a random segment of it (the `rand` control)."""
    num, horizon = energies.shape
    index_key, end_key = jax.random.split(key)
    is_valid = jnp.all(jnp.isfinite(energies), axis=1)
    rank = jnp.where(is_valid, jax.random.uniform(index_key, (num,)), jnp.inf)
    index = jnp.argmin(rank).astype(jnp.int32)
    end = jax.random.randint(end_key, (), length, horizon + 1)
    level = jnp.where(is_valid[index], energies[index].max(), 0.0)
    selection = lyapunov.Selection(index, end, level, level, is_valid[index])
    return Choice(selection, end - length, end)


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

    Returns:
      `Alignment`. A variant whose candidates all have a non-finite energy gets the
      empty prompt and `prompt_ok` 0, never a NaN.
    """
    length = config.prompt_length
    if horizon < length:
        raise UserError(
            f"horizon {horizon} is shorter than the prompt ({length} steps)"
        )
    first = _run_loop(
        model,
        variables,
        config,
        horizon,
        split_keys(jax.random.fold_in(key, 0), config.num_first),
        state,
        None,
    )

    def bounded(selection):
        return Choice(
            selection,
            *lyapunov.segment_bounds(selection.peak, length=length, horizon=horizon),
        )

    def encode(loop, choice):
        found = choice.selection.is_valid
        steps = segment(loop.outputs, choice.selection.index, choice.start, length)
        # A disqualified trajectory may hold NaN, which a weight of zero does not hide.
        steps = jax.tree.map(lambda x: jnp.where(found, x, jnp.zeros_like(x)), steps)
        return model.encode_prompt(variables, steps, found)

    rules = {v: _RULES[v] for v in variants if _RULES[v] is not None}
    first_choices, second, second_choices = {}, {}, {}
    for variant, (rule, _, _) in rules.items():
        if rule == "random":
            random_key = jax.random.fold_in(key, 2)
            first_choices[variant] = _random_choice(random_key, first.energies, length)
        else:
            first_choices[variant] = bounded(
                lyapunov.select_first(first.energies, rule=rule)
            )
    first_prompts = {v: encode(first, c) for v, c in first_choices.items()}
    # One second loop per first prompt, all in one program: variants that differ only in
    # how they score the M imaginations share them.
    loops = {rule: v for v, (rule, is_second, _) in rules.items() if is_second}
    if loops:
        prompted = model.make_room(state)
        second_keys = split_keys(jax.random.fold_in(key, 1), config.num_second)
        stacked = jax.tree.map(
            lambda *x: jnp.stack(x), *[first_prompts[v] for v in loops.values()]
        )
        # One after another, not side by side: a prompt's imaginations then have the
        # same shapes, and so the same bits, whichever other variants are asked for.
        runs = jax.lax.map(
            lambda prompt: _run_loop(
                model, variables, config, horizon, second_keys, prompted, prompt
            ),
            stacked,
        )
        second = {
            rule: jax.tree.map(lambda x, i=i: x[i], runs)
            for i, rule in enumerate(loops)
        }
    prompts, diagnostics = [], []
    for variant in variants:
        if variant not in rules:
            prompts.append(None)
            diagnostics.append(empty_diagnostics(cost_limits.shape[0]))
            continue
        rule, is_second, score = rules[variant]
        choice, loop = first_choices[variant], first
        level, found = choice.selection.level, choice.selection.is_valid
        prompt = first_prompts[variant]
        if is_second:
            loop = second[rule]
            choice = bounded(
                lyapunov.select_second(loop.energies, level, count_u=score == "uv")
            )
            second_choices[variant] = choice
            found = found & choice.selection.is_valid
            prompt = encode(loop, choice).replace(is_present=found)
        prompts.append(prompt)
        diagnostics.append(
            _diagnose(loop, choice, level, found, cost_limits, max_cost, config)
        )
    present = [p for p in prompts if p is not None]
    if present:
        empty = jax.tree.map(jnp.zeros_like, present[0])
        prompts = jax.tree.map(
            lambda *x: jnp.stack(x), *[empty if p is None else p for p in prompts]
        )
    else:
        prompts = None
    diagnostics = jax.tree.map(lambda *x: jnp.stack(x), *diagnostics)
    return Alignment(prompts, diagnostics, first, second, first_choices, second_choices)


def empty_diagnostics(num_limits: int) -> Diagnostics:
    """The diagnostics of a variant without a prompt, at `num_limits` thresholds."""
    nan = jnp.full((), jnp.nan)
    return Diagnostics(nan, nan, nan, nan, jnp.full(num_limits, jnp.nan), nan, nan)


def _diagnose(loop, choice, level, found, cost_limits, max_cost, config):
    """Conditions and invariant set along the trajectory the prompt was cut from."""
    energies = loop.energies[choice.selection.index]
    g = lyapunov.lyapunov_value(energies, level)

    def share(cost_limit):
        return lyapunov.in_invariant_set(
            g,
            cost_limit=cost_limit,
            max_cost=max_cost,
            concentrability=config.concentrability,
        ).mean()

    def known(x):
        return jnp.where(found, x.astype(jnp.float32), jnp.nan)

    return Diagnostics(
        level=known(level),
        score=known(choice.selection.score),
        mean_u=known(lyapunov.condition_u(g).mean()),
        mean_v=known(lyapunov.condition_v(g).mean()),
        invariant_share=known(jax.vmap(share)(cost_limits)),
        prompt_start=known(choice.start),
        prompt_ok=found.astype(jnp.float32),
    )
