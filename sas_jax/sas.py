"""The aligned policy: chooses a prompt when an episode begins, then acts with it.

Rows are episodes x variants. All variants of an episode share the noise of their
actions too, so that they differ by their prompt alone; `null` has another stream.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from sas_jax.alignment import (
    Alignment,
    Diagnostics,
    SASConfig,
    align,
    check_variants,
    empty_diagnostics,
)
from sas_jax.stepping import ModelState, SequenceModel
from sas_jax.types import Key, Rows, TimeStep


@struct.dataclass
class Carry:
    """What the aligned policy remembers, one row per episode x variant.

    state, prompt, diagnostics: see their types; prompt is None without variants that
    have one. keys: `[B]` each row's stream. cost_limit, target_return: `[B]`.
    """

    state: ModelState
    prompt: Any
    diagnostics: Diagnostics
    keys: Key
    target_return: jax.Array
    cost_limit: jax.Array


class Policy(NamedTuple):
    """The acting half of a `Learner`, and Algorithm 1 as it runs it.

    align_episode(variables, row key, obs `[O]`, cost_limits `[C]`) -> Alignment: what
    `begin` does for one episode, with the same draws; for pictures and diagnostics.
    """

    initial_carry: Callable[..., Carry]
    begin: Callable[..., Carry]
    act: Callable[..., tuple[jax.Array, Carry]]
    diagnostics: Callable[[Carry], dict[str, jax.Array]]
    align_episode: Callable[..., Alignment]


def episode_key(key: Key, episode_seed: jax.Array, *, is_null: jax.Array) -> Key:
    """The stream of an episode's draws; `null` has its own."""
    episode = jax.random.fold_in(key, episode_seed)
    return jax.random.fold_in(episode, jnp.asarray(is_null, jnp.uint32))


def make_policy(
    model: SequenceModel,
    config: SASConfig,
    *,
    variants: tuple[str, ...],
    horizon: int,
    target_return: float,
    max_cost: float = 1.0,
    report_limits: tuple[float, ...] | None = None,
) -> Policy:
    """Builds the acting half of a `Learner`.

    Rows come variant by variant: row `v * E + e` is episode e under `variants[v]`, so a
    batch holds E episodes times all variants. `variables` is a dict with the model's
    "params" and "variances".

    Args:
      model: step functions. variants: static names. horizon: T of imagination.
      target_return: return token at the start of an episode.
      max_cost: C_max, the largest cost of a step.
      report_limits: thresholds at which the invariant set is reported; None means each
        row's own.
    """
    variants = check_variants(variants)
    num_variants = len(variants)

    is_null = jnp.asarray([v == "null" for v in variants])

    def row_keys(rows, key):
        def one(seed, variant):
            return episode_key(key, seed, is_null=is_null[variant])

        return jax.vmap(one)(rows.episode_seed, rows.variant)

    def initial_carry(variables, rows: Rows, key: Key, obs_dim: int) -> Carry:
        count = rows.variant.shape[0]
        if count % num_variants:
            raise ValueError(f"{count} rows are no multiple of {num_variants} variants")
        keys = row_keys(rows, key)
        state = model.start(
            variables,
            keys,
            jnp.zeros((count, obs_dim)),
            jnp.full(count, target_return),
            rows.cost_limit,
            model.context,
        )
        return Carry(
            state=state,
            prompt=None,
            diagnostics=jax.tree.map(
                lambda x: jnp.broadcast_to(x, (count, *x.shape)),
                empty_diagnostics(len(report_limits or (0.0,))),
            ),
            keys=keys,
            target_return=jnp.full(count, target_return),
            cost_limit=jnp.array(rows.cost_limit, jnp.float32),
        )

    def align_episode(variables, row_key, obs, cost_limits) -> Alignment:
        start_key, align_key = jax.random.split(jax.random.fold_in(row_key, 1))
        state = model.start(
            variables,
            start_key[None],
            obs[None],
            jnp.full(1, target_return),
            cost_limits[:1],
            model.context,
        )
        return align(
            model,
            variables,
            align_key,
            state,
            cost_limits,
            config=config,
            variants=variants,
            horizon=horizon,
            max_cost=max_cost,
        )

    def begin(variables, carry: Carry, ts: TimeStep, key: Key) -> Carry:
        """Aligns at the first observation of an episode, all rows at once."""
        del key  # every draw comes from the rows' own keys
        count = ts.obs.shape[0]
        episodes = count // num_variants

        def one(row_key, obs, cost_limit):
            limits = cost_limit[None]
            if report_limits is not None:
                limits = jnp.asarray(report_limits)
            result = align_episode(variables, row_key, obs, limits)
            return result.prompts, result.diagnostics

        # The first variant's rows stand for their episodes: `null` alone has other
        # keys, and it has no prompt.
        lead = next((i for i, v in enumerate(variants) if v != "null"), 0)
        rows = slice(lead * episodes, (lead + 1) * episodes)
        prompts, diagnostics = jax.vmap(one)(
            carry.keys[rows], ts.obs[rows], carry.cost_limit[rows]
        )

        def by_row(x):
            """`[E, V, ...]` -> `[V * E, ...]`."""
            x = jnp.swapaxes(x, 0, 1)
            return x.reshape(count, *x.shape[2:])

        prompts, diagnostics = jax.tree.map(by_row, (prompts, diagnostics))
        window = jnp.full(count, model.context)
        if prompts is not None:
            window = jnp.where(prompts.is_present, model.prompt_window, window)
        is_short = jnp.repeat(jnp.asarray([v == "short" for v in variants]), episodes)
        window = jnp.where(is_short, model.prompt_window, window)
        state = carry.state.replace(
            timestep=jnp.zeros(count, jnp.int32), window=window.astype(jnp.int32)
        )
        return carry.replace(state=state, prompt=prompts, diagnostics=diagnostics)

    def act(variables, carry: Carry, ts: TimeStep, key: Key):
        """One action per row; return and cost tokens follow what really happened."""
        del key
        state = carry.state
        first = ts.is_first
        state = state.replace(
            obs=model.standardise(ts.obs),
            timestep=jnp.where(first, 0, state.timestep),
            return_to_go=jnp.where(
                first, carry.target_return, state.return_to_go - ts.reward
            ),
            cost_to_go=jnp.where(first, carry.cost_limit, state.cost_to_go - ts.cost),
        )
        observed = model.observe(variables, state, carry.prompt)
        action = observed.mean
        if config.sample_actions:
            noise = jax.vmap(
                lambda row_key, t: jax.random.normal(
                    jax.random.fold_in(jax.random.fold_in(row_key, 0), t),
                    action.shape[1:],
                )
            )(carry.keys, state.timestep)
            action = action + jnp.exp(observed.log_std) * noise
        action = jnp.clip(action, -1.0, 1.0)
        state = model.commit(variables, state, observed, action, carry.prompt)
        return action, carry.replace(state=state)

    def diagnostics(carry: Carry) -> dict[str, jax.Array]:
        return {
            field.name: getattr(carry.diagnostics, field.name)
            for field in dataclasses.fields(Diagnostics)
        }

    return Policy(initial_carry, begin, act, diagnostics, align_episode)
