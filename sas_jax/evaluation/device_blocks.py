"""Blocks of whole episodes in one program on the device, for environments in JAX.

What `blocks` does step by step with worker processes. Nothing leaves the device before
a block ends, and there are no paths of its episodes, only their sums.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.errors import UserError
from sas_jax.evaluation.blocks import BlockRun
from sas_jax.jax_envs import loop
from sas_jax.jax_envs.protocol import JaxEnv
from sas_jax.types import Key, Policy, Rows


def run(
    env: JaxEnv,
    policy: Policy,
    variables: Any,
    *,
    num_variants: int,
    cost_limits: Sequence[float],
    target_return: float | None,
    key: Key,
    seeds: np.ndarray,
    at_once: int,
    on_step: Callable[[int], None] | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Iterator[BlockRun]:
    """Runs the episodes of `seeds` `[E]`, `at_once` of each variant side by side.

    A last block with fewer is filled up with copies of its first episode. Rewards and
    costs come as one sum an episode, `[G, E, 1]`; poses are NaN, layouts and first
    observations are left out.

    Args:
      num_variants: of the policy. cost_limits: thresholds that it acts under, one after
        the other. target_return: None is the policy's own. key: base of every draw.
      on_step, on_stage: see `blocks.BlockRunner.run`.

    Raises:
      UserError: an episode whose return or cost is not finite.
    """
    say = on_stage or (lambda words: None)
    program = loop.make_evaluate(
        env, policy, num_variants=num_variants, at_once=at_once
    )
    compiled = None
    for first in range(0, len(seeds), at_once):
        own = seeds[first : first + at_once]
        size = len(own)
        filled = np.concatenate([own, np.full(at_once - size, own[0])])
        parts = []
        for limit in cost_limits:
            rows = Rows(
                cost_limit=jnp.full(at_once, limit, jnp.float32),
                episode_seed=jnp.asarray(filled, jnp.uint32),
            )
            if target_return is not None:
                target = jnp.full(at_once, target_return, jnp.float32)
                rows = rows.replace(target_return=target)
            if compiled is None:
                say("compiling")
                compiled = program.lower(variables, rows, key).compile()
            say("acting")
            parts.append(jax.device_get(compiled(variables, rows, key)))
        out = _grouped(parts, num_variants, size)
        _check_finite(out, own)
        if on_step:
            on_step(int(out.length.sum()))
        yield BlockRun(
            seeds=own,
            first_obs=np.zeros((size, 0), np.float32),
            layouts={},
            reward=out.episode_return[..., None],
            cost=out.cost[..., None],
            pose=np.full((*out.cost.shape, 1, 6), np.nan),
            length=out.length,
            terminated=out.terminated,
            diagnostics=out.diagnostics,
            ended=out.ended,
            align_seconds=np.nan,
        )


def _check_finite(out: loop.Outcome, seeds: np.ndarray) -> None:
    """UserError names the first episode that came to something else than a number."""
    for name, found in (("return", out.episode_return), ("cost", out.cost)):
        wrong = np.argwhere(~np.isfinite(found))
        if len(wrong):
            group, episode = wrong[0]
            raise UserError(
                f"episode {seeds[episode]}: {name} {found[group, episode]}; expected "
                "finite numbers of the environment and of the policy"
            )


def _grouped(parts: Sequence[loop.Outcome], num_variants: int, size: int):
    """`[V * T, size, ...]`, variant by variant, of T thresholds' `[V * E, ...]`."""

    def together(*arrays):
        stacked = np.stack(
            [x.reshape(num_variants, -1, *x.shape[1:]) for x in arrays], axis=1
        )
        return stacked.reshape(-1, *stacked.shape[2:])[:, :size]

    return jax.tree.map(together, *parts)
