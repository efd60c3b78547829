"""Algorithm 1, once: imagine, score, choose a prompt, for a batch of episodes.

Works with any `SequenceModel`. The lines named in `_Run.__call__` are the paper's.
All variants of an episode share the first loop's imaginations; those whose first prompt
is chosen by one rule share the second loop's, too.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.diagnostics import (
    Diagnostics,
    diagnose,
    empty_diagnostics,
)
from sas_jax.alignment.fragments import Fragment, fragment_keys, joined
from sas_jax.alignment.gate import RiskModel, risk_of_steps
from sas_jax.alignment.loops import (
    Choice,
    Loop,
    bounded,
    counted,
    cut,
    loop_keys,
    run_loop,
)
from sas_jax.alignment.rules import RULES, Candidates
from sas_jax.alignment.sequence_model import (
    Prompt,
    SequenceModel,
    checked,
    make_room,
)
from sas_jax.alignment.tiles import Tiling, map_rows, map_tiles
from sas_jax.alignment.variants import VARIANTS, check_variants
from sas_jax.errors import UserError
from sas_jax.shapes import expect_shape
from sas_jax.types import Key, Params, Trajectory

__all__ = ["Alignment", "align", "align_batch"]


class Alignment(NamedTuple):
    """Everything Algorithm 1 made for one episode, or `[E, ...]` for a batch of them.

    prompts, diagnostics: `[V]`, one entry per variant in the order asked for.
    Of the first run, where there are several fragments:
    first: the first loop. second: dict first rule -> second loop `[M, T]`.
    first_choices, second_choices: dict variant -> Choice.
    """

    prompts: Prompt | None
    diagnostics: Diagnostics
    first: Loop
    second: dict[str, Loop]
    first_choices: dict[str, Choice]
    second_choices: dict[str, Choice]


class Rows(NamedTuple):
    """What is known of the episodes besides their states; `[E]` each.

    cost_limits: `[E, C]`. num_steps: int32 steps until the episode ends. origin: time
    step at which the prompt is put in front; None means the episode's start.
    """

    cost_limits: jax.Array
    num_steps: jax.Array
    origin: jax.Array | None


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
    """`align_batch` for one episode: no leading axis in what comes and goes.

    Args:
      key: consumed; the i-th imagination depends on (key, i) only.
      state: where the episode stands, one trajectory (leading axis 1).
      cost_limits: `[C]` thresholds d at which the invariant set is reported.
      The others are as in `align_batch`.
    """
    found = align_batch(
        model,
        variables,
        key[None],
        state,
        cost_limits[None],
        config=config,
        variants=variants,
        horizon=horizon,
        max_cost=max_cost,
        risk_model=risk_model,
    )
    return jax.tree.map(lambda x: x[0], found)


def align_batch(
    model: SequenceModel,
    variables: Params,
    keys: Key,
    state: Any,
    cost_limits: jax.Array,
    *,
    config: SASConfig,
    variants: tuple[str, ...],
    horizon: int,
    num_steps: jax.Array | None = None,
    origin: jax.Array | None = None,
    max_cost: float = 1.0,
    risk_model: RiskModel | None = None,
    tiling: Tiling | None = None,
) -> Alignment:
    """Algorithm 1 for E episodes: imagine N, choose, imagine M more, choose a prompt.

    Args:
      model: any sequence policy that offers the step functions.
      variables: its parameters.
      keys: `[E]`, consumed; an episode's i-th imagination depends on (its key, i) only.
      state: where the episodes stand, leading axis E; leaves without axes are common.
      cost_limits: `[E, C]` thresholds d at which the invariant set is reported.
      config: settings. horizon: T, static; `config.horizon` with 0 resolved.
      variants: static tuple of names out of `variants.VARIANTS`.
      num_steps: `[E]` steps until the episode ends, at least 1; later imagined steps
        count nowhere. None means no fewer than T.
      origin: `[E]` time step at which the prompts are put in front; None: the start.
      max_cost: C_max, the largest cost of a step.
      risk_model: cost critic of the variants that choose by one.
      tiling: imaginations of all episodes are worked off in tiles of one shape, over
        devices; the shape depends neither on the episodes nor on the devices. None
        means side by side.

    Returns:
      `Alignment` whose leaves have a leading axis E. A variant whose candidates all
      have a non-finite energy gets the empty prompt and `prompt_ok` 0, never a NaN.
      With several fragments, a run without a valid candidate repeats the segment of the
      first run that has one.

    Raises:
      UserError: an unknown variant, a horizon shorter than the prompt, or a function of
        the model, a rule or a critic that returned another shape than it should.
    """
    if horizon < config.prompt_length:
        raise UserError(
            f"horizon {horizon} is shorter than the prompt ({config.prompt_length} "
            "steps)"
        )
    run = _Run(
        checked(model),
        config,
        check_variants(variants),
        horizon,
        max_cost,
        risk_model,
        tiling,
    )
    count = cost_limits.shape[0]
    if num_steps is None:
        num_steps = jnp.full(count, horizon, jnp.int32)
    rows = Rows(cost_limits, jnp.minimum(num_steps, horizon), origin)

    def once(keys):
        return run(variables, keys, state, rows)

    if config.fragments == 1:
        fragments, *details = once(keys)
    else:
        keys = jax.vmap(lambda key: fragment_keys(key, config.fragments))(keys)
        fragments, *details = jax.lax.map(once, jnp.swapaxes(keys, 0, 1))
        details = jax.tree.map(lambda x: x[0], details)
        fragments = {v: jax.vmap(joined, 1)(f) for v, f in fragments.items()}
    found = run.prompts_of(variables, fragments, rows)
    return Alignment(*found, *details)


@dataclasses.dataclass(frozen=True)
class _Run:
    """One run of Algorithm 1 over a batch; the fields are `align_batch`'s arguments."""

    model: SequenceModel
    config: SASConfig
    variants: tuple[str, ...]
    horizon: int
    max_cost: float
    risk_model: RiskModel | None
    tiling: Tiling | None

    def __call__(self, variables: Params, keys: Key, state: Any, rows: Rows) -> tuple:
        """Variant -> `Fragment`, the loops, and the choices in them; all `[E]`."""
        split = jax.vmap(lambda key: loop_keys(key, self.config))
        first_keys, second_keys, rule_keys = split(keys)
        # Lines 1 to 5: N imaginations from where the episode stands, their energies.
        first = self.imagine(variables, first_keys, state, rows, None)
        # Lines 6 and 7: one of them, by each rule, and the L steps before its peak.
        first_choices, prompts = self.each(
            self.choose_first, variables, rule_keys, first, rows
        )
        second = {}
        if prompts:
            # Lines 8 to 13: M imaginations under the first prompt. One rule after the
            # other, not side by side: a prompt's imaginations have the same shapes, and
            # so the same bits, whichever other variants are asked for.
            room = make_room(self.model, state, self.config.prompt_length)
            stacked = jax.tree.map(lambda *x: jnp.stack(x), *prompts.values())
            loops = jax.lax.map(
                lambda prompt: self.imagine(variables, second_keys, room, rows, prompt),
                stacked,
            )
            second = {
                rule: jax.tree.map(lambda x, i=i: x[i], loops)
                for i, rule in enumerate(prompts)
            }
        # Lines 14 and 15: one of these, and the prompt of the real episode.
        fragments, second_choices = self.each(
            self.choose_last, variables, rule_keys, first, first_choices, second, rows
        )
        return fragments, first, second, first_choices, second_choices

    def each(self, function: Callable[..., Any], variables: Any, *rows: Any) -> Any:
        """`function(variables, *row)` of every episode."""
        return map_rows(
            lambda row, shared: function(shared, *row), rows, variables, self.tiling
        )

    def imagine(
        self, variables: Params, keys: Key, state: Any, rows: Rows, prompts: Any
    ) -> Loop:
        """One loop of every episode: keys `[E, P]`, prompts `[E]` or None."""
        model, config, horizon = self.model, self.config, self.horizon
        is_common = jax.tree.map(lambda x: x.ndim == 0, state)

        def loop(variables, keys, state, num_steps, prompt):
            own = jax.tree.map(
                lambda x, common: x if common else x[None], state, is_common
            )
            return run_loop(
                model, variables, config, horizon, keys, own, prompt, num_steps
            )

        if self.tiling is None:
            axes = jax.tree.map(lambda common: None if common else 0, is_common)
            every = jax.vmap(loop, (None, 0, axes, 0, 0))
            return every(variables, keys, state, rows.num_steps, prompts)

        def one(row, shared):
            key, owner = row
            variables, state, num_steps, prompts = shared
            mine = jax.tree.map(
                lambda x, common: x if common else x[owner], state, is_common
            )
            prompt = jax.tree.map(lambda x: x[owner], prompts)
            found = loop(variables, key[None], mine, num_steps[owner], prompt)
            return jax.tree.map(lambda x: x[0], found)

        count, size = keys.shape
        each = keys.reshape(-1), jnp.repeat(jnp.arange(count), size)
        shared = (variables, state, rows.num_steps, prompts)
        found = map_tiles(one, each, shared, self.tiling)
        return jax.tree.map(lambda x: x.reshape(count, size, *x.shape[1:]), found)

    def choose(
        self, variables: Params, rule: str, key: Key, loop: Loop, level: Any, rows: Rows
    ) -> Choice:
        """A rule's choice in one episode's loop, with its segment."""
        needs_risk, risk = RULES[rule].needs_risk, None
        if needs_risk:
            assert self.risk_model is not None  # the variants need one
            risk = risk_of_steps(self.risk_model, self.model, variables, loop.outputs)
        seen = Candidates(
            energies=loop.energies,
            reward=loop.outputs.reward,
            cost=loop.outputs.cost,
            risk=risk,
            level=level,
            cost_limits=rows.cost_limits,
            num_steps=rows.num_steps,
            counts=self.counted(rows),
            is_valid=loop.is_valid,
        )
        chosen = RULES[rule].choose(key, seen, self.config)
        for name, value in chosen._asdict().items():
            expect_shape(f"rule {rule!r}", name, value)
        return bounded(chosen, self.config.prompt_length, self.horizon)

    def counted(self, rows: Rows) -> jax.Array:
        """`[T]` bool: the steps of one episode whose energies are compared."""
        return counted(self.model, self.config, self.horizon, rows.num_steps)

    def choose_first(
        self, variables: Params, key: Key, loop: Loop, rows: Rows
    ) -> tuple[dict[str, Choice], dict[str, Prompt]]:
        """Variant -> choice, and first rule -> prompt of its second loop."""
        nan = jnp.full((), jnp.nan)
        by_rule, choices, prompts = {}, {}, {}
        for name in self.variants:
            variant = VARIANTS[name]
            rule = variant.first
            if rule is None:
                continue
            if rule not in by_rule:
                by_rule[rule] = self.choose(variables, rule, key, loop, nan, rows)
            choice = choices[name] = by_rule[rule]
            if variant.second is not None and rule not in prompts:
                found = choice.selection.is_valid
                steps = cut(loop, choice, found, self.config.prompt_length)
                prompts[rule] = self.encode(variables, steps, found, rows.origin)
        return choices, prompts

    def choose_last(
        self,
        variables: Params,
        key: Key,
        first: Loop,
        first_choices: dict[str, Choice],
        second: dict[str, Loop],
        rows: Rows,
    ) -> tuple[dict[str, Fragment], dict[str, Choice]]:
        """Variant -> Fragment, and its choice in the second loop if it has one."""
        fragments, second_choices = {}, {}
        for name, choice in first_choices.items():
            variant, loop = VARIANTS[name], first
            level, found = choice.selection.level, choice.selection.is_valid
            if variant.first is not None and variant.second is not None:
                loop = second[variant.first]
                choice = self.choose(variables, variant.second, key, loop, level, rows)
                second_choices[name] = choice
                found = found & choice.selection.is_valid
            seen = diagnose(
                loop.energies,
                choice.selection,
                choice.start,
                level,
                found,
                rows.cost_limits,
                max_cost=self.max_cost,
                config=self.config,
                counts=self.counted(rows),
            )
            steps = cut(loop, choice, found, self.config.prompt_length)
            fragments[name] = Fragment(steps, found, seen)
        return fragments, second_choices

    def encode(
        self, variables: Params, steps: Trajectory, found: jax.Array, origin: Any
    ) -> Prompt:
        """One episode's segment as a prompt that stands before step `origin`."""
        prompt = self.model.encode_prompt(variables, steps, found)
        return prompt if origin is None else dataclasses.replace(prompt, origin=origin)

    def prompts_of(
        self, variables: Params, fragments: dict[str, Fragment], rows: Rows
    ) -> tuple[Prompt | None, Diagnostics]:
        """Prompts and diagnostics `[E, V]` in the variants' order, empty where a
        variant has none; prompts are None where none has.
        """
        count, num_limits = rows.cost_limits.shape
        empty = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (count, *x.shape)),
            empty_diagnostics(num_limits),
        )

        def encode(variables, fragments, rows):
            return {
                v: self.encode(variables, f.segment, f.found, rows.origin)
                for v, f in fragments.items()
            }

        prompts = None
        if fragments:
            made = self.each(encode, variables, fragments, rows)
            none = jax.tree.map(jnp.zeros_like, next(iter(made.values())))
            prompts = jax.tree.map(
                lambda *x: jnp.stack(x, 1), *[made.get(v, none) for v in self.variants]
            )
        diagnostics = [
            fragments[v].diagnostics if v in fragments else empty for v in self.variants
        ]
        return prompts, jax.tree.map(lambda *x: jnp.stack(x, 1), *diagnostics)
