"""Algorithm 1: imagine, score, choose a prompt, for one episode or a batch of them.

Works with any `SequenceModel`. All variants of an episode share the first loop's
imaginations.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sas_jax.alignment.config import VARIANTS, SASConfig, check_variants
from sas_jax.alignment.diagnostics import Diagnostics
from sas_jax.alignment.gate import RiskModel
from sas_jax.alignment.loops import (
    Choice,
    Loop,
    Task,
    choose_first,
    conclude,
    first_prompts,
    fragment_keys,
    join,
    loop_keys,
    run_loop,
    second_rules,
    summarise,
    task_of,
)
from sas_jax.alignment.sequence_model import Prompt, SequenceModel, make_room
from sas_jax.alignment.tiles import Tiling, map_tiles
from sas_jax.types import Key, Params

__all__ = ["VARIANTS", "SASConfig", "align", "align_batch", "check_variants"]


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
    task = task_of(model, config, variants, horizon, max_cost, risk_model)

    def run(key):
        return _run(task, variables, key, state, cost_limits)

    if config.fragments == 1:
        fragments, *details = run(key)
    else:
        fragments, *details = jax.lax.map(run, fragment_keys(key, config.fragments))
        fragments = {v: join(f) for v, f in fragments.items()}
        details = jax.tree.map(lambda x: x[0], details)
    found = summarise(task, variables, fragments, cost_limits.shape[0])
    return Alignment(*found, *details)


def _run(task: Task, variables, key, state, cost_limits):
    """Algorithm 1 once: variant -> Fragment, and the loops and choices."""
    model, config, horizon = task.model, task.config, task.horizon
    first_keys, second_keys, random_key = loop_keys(key, config)
    first = run_loop(model, variables, config, horizon, first_keys, state, None)
    first_choices = choose_first(task, variables, random_key, first)
    second = {}
    # One second loop per first prompt, all in one program: variants that differ only in
    # how they score the M imaginations share them.
    prompts = first_prompts(task, variables, first, first_choices)
    if prompts is not None:
        prompted = make_room(model, state, config.prompt_length)
        # One after another, not side by side: a prompt's imaginations then have the
        # same shapes, and so the same bits, whichever other variants are asked for.
        runs = jax.lax.map(
            lambda prompt: run_loop(
                model, variables, config, horizon, second_keys, prompted, prompt
            ),
            prompts,
        )
        second = {
            rule: jax.tree.map(lambda x, i=i: x[i], runs)
            for i, rule in enumerate(second_rules(task))
        }
    fragments, second_choices = conclude(
        task, variables, first, second, first_choices, cost_limits
    )
    return fragments, first, second, first_choices, second_choices


# Episodes that choose side by side. One: its products have the same shape whatever the
# tile of imaginations, and are few.
_CHOICES = 1


def start_batch(
    model: SequenceModel,
    variables: Params,
    keys: Key,
    obs: jax.Array,
    return_to_go: jax.Array,
    cost_to_go: jax.Array,
    *,
    tiling: Tiling,
) -> Any:
    """`model.start` of E trajectories, each one's density independent of the others.

    keys, return_to_go, cost_to_go: `[E]`. obs: `[E, O]`, environment units.
    """
    given = (keys, obs, return_to_go, cost_to_go)

    def density(row, variables):
        row = jax.tree.map(lambda x: x[None], row)
        return model.start(variables, *row, model.context).log_density[0]

    # Nothing else of a state is a product.
    few = tiling._replace(size=_CHOICES)
    state = model.start(variables, *given, model.context)
    return state.replace(log_density=map_tiles(density, given, variables, few))


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
    tiling: Tiling,
    max_cost: float = 1.0,
    risk_model: RiskModel | None = None,
) -> Alignment:
    """`align` for E episodes, their imaginations worked off in tiles over devices.

    All E x N imaginations of the first loop, and then all E x M of the second ones, are
    rows of `tiling`: as many products of one shape as it takes, on every device its
    share. The shape of a product depends on the size of the tiles, and neither on the
    other episodes nor on the number of devices; see `tiling` for what that is worth.

    Args:
      keys: `[E]`, consumed. state: of E trajectories, leading axis E; leaves without
        axes are common to all. cost_limits: `[E, C]`.
      tiling: see `tiling.make_tiling`. The others are as in `align`, draws included.

    Returns:
      `Alignment` whose leaves have a leading axis E.

    Raises:
      UserError: as `align`.
    """
    task = task_of(model, config, variants, horizon, max_cost, risk_model)
    count, runs = cost_limits.shape[0], config.fragments
    each = jax.vmap(lambda key: fragment_keys(key, runs))(keys).reshape(-1)
    owner = jnp.arange(count * runs) // runs
    first_keys, second_keys, random_keys = jax.vmap(lambda k: loop_keys(k, config))(
        each
    )

    def loop(keys, owner, state, prompts):
        """`[R, P]` imaginations of R runs, each from row `owner` of the states."""

        def one(row, shared):
            key, owner, run = row
            variables, state, prompts = shared
            own = jax.tree.map(lambda x: x[owner][None] if x.ndim else x, state)
            prompt = jax.tree.map(lambda x: x[run], prompts)
            found = run_loop(model, variables, config, horizon, key[None], own, prompt)
            return jax.tree.map(lambda x: x[0], found)

        number, size = keys.shape
        run = jnp.repeat(jnp.arange(number), size)
        rows = keys.reshape(-1), jnp.repeat(owner, size), run
        found = map_tiles(one, rows, (variables, state, prompts), tiling)
        return jax.tree.map(lambda x: x.reshape(number, size, *x.shape[1:]), found)

    def each_run(function, *rows):
        few = tiling._replace(size=_CHOICES)
        return map_tiles(
            lambda row, shared: function(shared, *row), rows, variables, few
        )

    def choose(variables, key, first):
        choices = choose_first(task, variables, key, first)
        return choices, first_prompts(task, variables, first, choices)

    first = loop(first_keys, owner, state, None)
    first_choices, prompts = each_run(choose, random_keys, first)
    second, rules = {}, second_rules(task)
    if rules:
        # Rule by rule, then run by run.
        prompts = jax.tree.map(
            lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]), prompts
        )
        prompted = make_room(model, state, config.prompt_length)
        number = len(rules)
        found = loop(
            jnp.tile(second_keys, (number, 1)),
            jnp.tile(owner, number),
            prompted,
            prompts,
        )
        size = count * runs
        second = {
            rule: jax.tree.map(lambda x, i=i: x[i * size : (i + 1) * size], found)
            for i, rule in enumerate(rules)
        }

    def finish(variables, *given):
        return conclude(task, variables, *given)

    fragments, second_choices = each_run(
        finish, first, second, first_choices, cost_limits[owner]
    )

    def of_episodes(x):
        return x.reshape(count, runs, *x.shape[1:])

    details = (first, second, first_choices, second_choices)
    details = jax.tree.map(lambda x: of_episodes(x)[:, 0], details)

    def end(variables, fragments):
        if runs == 1:
            fragments = jax.tree.map(lambda x: x[0], fragments)
        else:
            fragments = {v: join(f) for v, f in fragments.items()}
        return summarise(task, variables, fragments, cost_limits.shape[1])

    if not fragments:
        found = jax.vmap(lambda _: summarise(task, variables, {}, cost_limits.shape[1]))
        return Alignment(*found(owner), *details)
    return Alignment(*each_run(end, jax.tree.map(of_episodes, fragments)), *details)
