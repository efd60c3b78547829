"""Algorithm 1 again, in flight: from the current history, for the rows that are due.

What `align` does for one episode and all variants when an episode begins, this does
for a batch of rows in the middle of theirs, each under its own variant, which is data
here: which rows are due changes from step to step, and no shape may.

A row's imaginations start from a copy of its own state, so they remember the last
K - 1 real steps and go on from the present time step. The context is then *the new
prompt, then the last K - L real steps*: those from before it keep the memory they made
when they were lived, under the prompt of that time. The prompt's steps keep the time
indices that they had in imagination, which lie ahead of the present one. A sliding
prompt stands before the present step: older steps move L steps further back, and what
no longer fits into the K steps is out of sight. Until the new prompt is chosen there is
none: the first loop sees K real steps and no prompt.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.alignment import lyapunov
from sas_jax.alignment.config import RULES, SASConfig
from sas_jax.alignment.diagnostics import Diagnostics, diagnose
from sas_jax.alignment.gate import RiskModel
from sas_jax.alignment.loops import (
    Fragment,
    bounded,
    cut,
    fragment_keys,
    join,
    loop_keys,
    random_choice,
    risk_choice,
    run_loop,
)
from sas_jax.alignment.sequence_model import Prompt, SequenceModel, make_room
from sas_jax.types import Key, Params

# Rows that are aligned side by side. Which rows share a sub-block changes nothing in
# the results: the shape is always the same.
SUB_BLOCK = 8
_FIRST_RULES = ("min", "max", "random", "risk")
_SCORES = ("v", "uv", "risk")


class Rules(NamedTuple):
    """A row's variant as numbers, `[B]` each.

    has_prompt: it has one. first: index of the first selection's rule. is_second:
    whether there is a second loop. score: index of what that is scored by.
    """

    has_prompt: jax.Array
    first: jax.Array
    is_second: jax.Array
    score: jax.Array


def rules_of(variants: tuple[str, ...], variant: jax.Array) -> Rules:
    """The rules of rows whose variants `[B]` are indices into the static names."""
    known = [RULES[v] or ("min", False, "v") for v in variants]
    table = Rules(
        has_prompt=np.array([RULES[v] is not None for v in variants]),
        first=np.int32([_FIRST_RULES.index(first) for first, _, _ in known]),
        is_second=np.array([is_second for _, is_second, _ in known]),
        score=np.int32([_SCORES.index(score or "v") for _, _, score in known]),
    )
    return Rules(*(jnp.asarray(column)[variant] for column in table))


class Due(NamedTuple):
    """Rows to align again: everything `[B]`.

    keys: consumed. obs: `[B, O]` present observations, environment units. rules: see
    `Rules`. limits: `[B, C]` thresholds at which the invariant set is reported.
    num_steps: steps until the episode ends, at least 1.
    """

    keys: Key
    obs: jax.Array
    rules: Rules
    limits: jax.Array
    num_steps: jax.Array


def _rows(tree, index):
    """Some rows of a batch; leaves without axes are common to all."""
    return jax.tree.map(lambda x: x[index] if x.ndim else x, tree)


def realign(
    model: SequenceModel,
    variables: Params,
    state: Any,
    is_due: jax.Array,
    rows: Due,
    prompts: Prompt,
    diagnostics: Diagnostics,
    *,
    config: SASConfig,
    horizon: int,
    max_cost: float = 1.0,
    risk_model: RiskModel | None = None,
) -> tuple[Prompt, Diagnostics, jax.Array]:
    """New prompts for the rows that are due; the others keep theirs.

    A row whose candidates are all disqualified keeps what it has, too. No row due, no
    work: the loop over sub-blocks of due rows then has no turn.

    Args:
      state: `[B]` rows' states before they act.
      is_due: `[B]` bool. rows: what is known of them. prompts, diagnostics: `[B]`.
      horizon: T, static. config, max_cost, risk_model: as in `align`.

    Returns:
      prompts, diagnostics, and `[B]` bool, which rows have new ones.
    """
    count = is_due.shape[0]
    size = min(SUB_BLOCK, count)
    order = jnp.argsort(~is_due, stable=True)
    order = jnp.concatenate([order, jnp.full(-count % size, count - 1)])
    num_due = is_due.sum()

    def body(i, held):
        index = jax.lax.dynamic_slice_in_dim(order, i * size, size)
        is_real = i * size + jnp.arange(size) < num_due
        found = _align_rows(
            model,
            variables,
            _rows(state, index),
            is_real,
            _rows(rows, index),
            config=config,
            horizon=horizon,
            max_cost=max_cost,
            risk_model=risk_model,
        )
        prompt, seen, is_new = found
        is_new = is_new & is_real
        # Rows that fill the sub-block up, and failures, are written nowhere.
        target = jnp.where(is_new, index, count)

        def put(old, new):
            return old.at[target].set(new, mode="drop")

        prompts, diagnostics, changed = held
        return (
            jax.tree.map(put, prompts, prompt),
            jax.tree.map(put, diagnostics, seen),
            put(changed, is_new),
        )

    turns = (num_due + size - 1) // size
    held = (prompts, diagnostics, jnp.zeros(count, bool))
    return jax.lax.fori_loop(0, turns, body, held)


def _align_rows(
    model, variables, state, is_real, rows, *, config, horizon, max_cost, risk_model
) -> tuple[Prompt, Diagnostics, jax.Array]:
    """Algorithm 1 for all rows of a sub-block: prompts, diagnostics, found `[S]`."""
    length = config.prompt_length
    origin = state.timestep
    keys = jax.vmap(jax.random.split)(rows.keys)
    # No imagination predicted the present observation, as with an episode's first one.
    fresh = model.start(
        variables,
        keys[:, 0],
        rows.obs,
        state.return_to_go,
        state.cost_to_go,
        model.context,
    )
    state = state.replace(log_density=fresh.log_density, window=fresh.window)

    def encode(steps, found, origin):
        prompt = model.encode_prompt(variables, steps, found)
        return prompt.replace(origin=origin)

    def seen_of(loop, choice, level, found, limits, num_steps):
        return diagnose(
            loop.energies,
            choice.selection,
            choice.start,
            level,
            found,
            limits,
            max_cost=max_cost,
            config=config,
            num_steps=num_steps,
        )

    is_common = jax.tree.map(lambda x: x.ndim == 0, state)
    axes = jax.tree.map(lambda common: None if common else 0, is_common)

    def own(state):
        """A row of a vmapped state, with its leading axis of one again."""
        return jax.tree.map(
            lambda x, common: x if common else x[None], state, is_common
        )

    def by_risk(loop, num_steps):
        """The critic's choice, where there is one; no rule asks for it otherwise."""
        if risk_model is None:
            return []
        given = (model, variables, risk_model, config, loop, horizon, num_steps)
        return [risk_choice(*given)]

    def first(key, state, rules, limits, num_steps):
        keys, _, random_key = loop_keys(key, config)
        loop = run_loop(
            model, variables, config, horizon, keys, own(state), None, num_steps
        )
        choices = [
            bounded(lyapunov.select_first(loop.energies, rule="min"), length, horizon),
            bounded(lyapunov.select_first(loop.energies, rule="max"), length, horizon),
            random_choice(random_key, loop.energies, length, num_steps),
            *by_risk(loop, num_steps),
        ]
        choice = jax.tree.map(lambda *x: jnp.stack(x)[rules.first], *choices)
        level, found = choice.selection.level, choice.selection.is_valid
        steps = cut(loop, choice, found, length)
        seen = seen_of(loop, choice, level, found, limits, num_steps)
        return Fragment(steps, found, seen), level

    def second(key, state, rules, limits, num_steps, before, level):
        keys = loop_keys(key, config)[1]
        prompt = encode(before.segment, before.found, own(state).timestep[0])
        prompted = make_room(model, own(state), length)
        loop = run_loop(
            model, variables, config, horizon, keys, prompted, prompt, num_steps
        )
        scored = [
            lyapunov.select_second(
                loop.energies, level, count_u=count_u, num_steps=num_steps
            )
            for count_u in (False, True)
        ]
        choices = [bounded(selection, length, horizon) for selection in scored]
        choices += by_risk(loop, num_steps)
        choice = jax.tree.map(lambda *x: jnp.stack(x)[rules.score], *choices)
        found = before.found & choice.selection.is_valid
        seen = seen_of(loop, choice, level, found, limits, num_steps)
        after = Fragment(cut(loop, choice, found, length), found, seen)
        return jax.tree.map(
            lambda new, old: jnp.where(rules.is_second, new, old), after, before
        )

    def run(keys):
        over = (0, axes, 0, 0, 0)
        given = (keys, state, rows.rules, rows.limits, rows.num_steps)
        before, level = jax.vmap(first, over)(*given)
        return jax.lax.cond(
            jnp.any(rows.rules.is_second & is_real),
            lambda: jax.vmap(second, (*over, 0, 0))(*given, before, level),
            lambda: before,
        )

    keys = keys[:, 1]
    if config.fragments == 1:
        chosen = run(keys)
    else:
        keys = jax.vmap(lambda key: fragment_keys(key, config.fragments))(keys)
        chosen = jax.lax.map(run, jnp.swapaxes(keys, 0, 1))
        chosen = jax.vmap(join, 1)(chosen)
    prompts = jax.vmap(encode)(chosen.segment, chosen.found, origin)
    return prompts, chosen.diagnostics, chosen.found
