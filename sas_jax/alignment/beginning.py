"""Where episodes begin: the first carry, the alignment, the prompt that comes of it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.alignment import drift as drift_lib
from sas_jax.alignment import plan as plan_lib
from sas_jax.alignment.algorithm1 import Alignment, align_batch
from sas_jax.alignment.carry import ALIGNMENT, Carry, Setup, of_rows
from sas_jax.alignment.diagnostics import empty_diagnostics
from sas_jax.alignment.sequence_model import SequenceModel
from sas_jax.alignment.tiles import Tiling, map_rows
from sas_jax.alignment.variants import VARIANTS, guided_of
from sas_jax.types import Key, Params, Rows, TimeStep


def episode_key(key: Key, episode_seed: jax.Array, *, is_null: jax.Array) -> Key:
    """The stream of an episode's draws; `null` has its own."""
    episode = jax.random.fold_in(key, episode_seed)
    return jax.random.fold_in(episode, jnp.asarray(is_null, jnp.uint32))


def _alignment_keys(row_key: Key) -> Key:
    """`[2]` keys of a row: of its start, and of Algorithm 1."""
    return jax.random.split(jax.random.fold_in(row_key, ALIGNMENT))


def initial_carry(setup: Setup, variables, rows: Rows, key: Key, obs_dim: int) -> Carry:
    """The carry of rows that have seen nothing yet."""
    count, variants = rows.cost_limit.shape[0], setup.variants
    if count % len(variants):
        raise ValueError(f"{count} rows are no multiple of {len(variants)} variants")
    is_null = np.repeat([v == "null" for v in variants], count // len(variants))
    keys = jax.vmap(lambda seed, null: episode_key(key, seed, is_null=null))(
        rows.episode_seed, jnp.asarray(is_null)
    )
    target = jnp.full(count, setup.target_return)
    if rows.target_return is not None:
        target = jnp.array(rows.target_return, jnp.float32)
    state = setup.model.start(
        variables,
        keys,
        jnp.zeros((count, obs_dim)),
        target,
        rows.cost_limit,
        setup.model.context,
    )
    has_gate = any(VARIANTS[v].is_gated for v in variants)
    none = jnp.zeros(count, jnp.int32)
    plan = None
    if any(VARIANTS[v].plan for v in variants):
        sizes = (obs_dim, setup.plan_model.action_dim)
        plan = plan_lib.empty(
            count, setup.config.plan, *sizes, keeps_candidates=setup.keeps_candidates
        )
    return Carry(
        state=state,
        prompt=None,
        diagnostics=jax.tree.map(
            lambda x: jnp.broadcast_to(x, (count, *x.shape)),
            empty_diagnostics(setup.num_limits),
        ),
        keys=keys,
        target_return=target,
        cost_limit=jnp.array(rows.cost_limit, jnp.float32),
        num_realigned=none if setup.config.realign_every else None,
        num_gated=none if has_gate else None,
        plan=plan,
        free=state if guided_of(variants) else None,
        recalled=setup.recall.start(count) if setup.recall else None,
        variants=variants,
    )


def begin(setup: Setup, variables, carry: Carry, ts: TimeStep, key: Key) -> Carry:
    """Aligns at the first observation of an episode, all rows at once."""
    del key  # every draw comes from the rows' own keys
    variants, count = setup.variants, ts.obs.shape[0]
    episodes = count // len(variants)

    # The first variant's rows stand for their episodes: `null` alone has other
    # keys, and it has no prompt.
    lead = next((i for i, v in enumerate(variants) if v != "null"), 0)
    rows = slice(lead * episodes, (lead + 1) * episodes)
    found = align_episodes(
        setup,
        variables,
        carry.keys[rows],
        ts.obs[rows],
        setup.limits_of(carry.cost_limit[rows]),
        carry.target_return[rows],
    )

    def by_row(x):
        """`[E, V, ...]` -> `[V * E, ...]`."""
        x = jnp.swapaxes(x, 0, 1)
        return x.reshape(count, *x.shape[2:])

    prompts, diagnostics = jax.tree.map(by_row, (found.prompts, found.diagnostics))
    kept = None
    if setup.keep is not None:
        kept = jax.tree.map(
            lambda x: jnp.concatenate([x] * len(variants)),
            jax.vmap(setup.keep)(found),
        )
    model = setup.model
    window = jnp.full(count, model.context)
    if prompts is not None:
        window = jnp.where(prompts.is_present, model.prompt_window, window)
    is_short = of_rows(carry, lambda v: v == "short")
    window = jnp.where(is_short, model.prompt_window, window)
    state = carry.state.replace(
        timestep=jnp.zeros(count, jnp.int32), window=window.astype(jnp.int32)
    )
    if setup.config.realign_every and prompts is not None:
        prompts = prompts.replace(origin=jnp.zeros(count, jnp.int32))
    drift = None
    if setup.config.track_drift:
        drift = begin_drift(setup, variables, carry, state, ts.obs, prompts)
    return carry.replace(
        state=state,
        prompt=prompts,
        diagnostics=diagnostics,
        drift=drift,
        kept=kept,
    )


def align_episode(
    setup: Setup, variables, row_key, obs, cost_limits, target=None
) -> Alignment:
    """`begin`'s Algorithm 1 for one episode: obs `[O]`, cost_limits `[C]`."""
    target = setup.target_return if target is None else target
    found = align_episodes(
        setup,
        variables,
        row_key[None],
        obs[None],
        cost_limits[None],
        jnp.asarray(target, jnp.float32)[None],
    )
    return jax.tree.map(lambda x: x[0], found)


def align_episodes(
    setup: Setup, variables, row_keys, obs, cost_limits, targets
) -> Alignment:
    """Algorithm 1 from the first observations `[E, O]`; cost_limits `[E, C]`."""
    keys = jax.vmap(_alignment_keys)(row_keys)
    state = start_batch(
        setup.model,
        variables,
        keys[:, 0],
        obs,
        targets,
        cost_limits[:, 0],
        tiling=setup.tiling,
    )
    return align_batch(
        setup.model,
        variables,
        keys[:, 1],
        state,
        cost_limits,
        config=setup.config,
        variants=setup.variants,
        horizon=setup.horizon,
        max_cost=setup.max_cost,
        risk_model=setup.risk_model,
        tiling=setup.tiling,
    )


def begin_drift(setup: Setup, variables, carry: Carry, state, obs, prompts):
    """`Drift` before the first action."""
    model = setup.model
    # One by one: a product's shape must not tell how many there are.
    first = start_batch(
        model,
        variables,
        jax.vmap(_alignment_keys)(carry.keys)[:, 0],
        obs,
        carry.target_return,
        carry.cost_limit,
        tiling=setup.tiling or Tiling(1),
    ).log_density

    def foresee():
        observed = model.observe(variables, state, prompts)
        action = observed.mean
        return model.foresee(variables, state, observed, action, prompts)[1]

    prediction = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(foresee)
    )
    return drift_lib.begin(
        first,
        prediction,
        setup.num_limits,
        setup.config.energy_window,
    )


def start_batch(
    model: SequenceModel,
    variables: Params,
    keys: Key,
    obs: jax.Array,
    return_to_go: jax.Array,
    cost_to_go: jax.Array,
    *,
    tiling: Tiling | None = None,
) -> Any:
    """`model.start` of E trajectories, each one's density independent of the others.

    keys, return_to_go, cost_to_go: `[E]`. obs: `[E, O]`, environment units.
    """
    given = (keys, obs, return_to_go, cost_to_go)

    def density(row, variables):
        row = jax.tree.map(lambda x: x[None], row)
        return model.start(variables, *row, model.context).log_density[0]

    # Nothing else of a state is a product.
    state = model.start(variables, *given, model.context)
    return state.replace(log_density=map_rows(density, given, variables, tiling))
