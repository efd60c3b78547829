"""The plan in hand, and the account of the plans before: what was expected, what came.

Who makes plans: `choosing`. When: `planning`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from sas_jax.alignment.config import PlanConfig


@struct.dataclass
class Plan:
    """The plan in hand and the account of those before, one row per episode.

    action: `[B, T, A]` of the chosen candidate. obs: `[B, T, O]` what it expects to see
    (environment units); cost: `[B, T]`. age: `[B]` int32 steps since it was made.
    is_kept: `[B]` bool, False where the policy acts: every candidate was out, or
    is_idle: `[B]` bool, it may (`choosing`).
    num_plans, num_own, num_out, num_idle: `[B]` how often was planned; how often the
    policy's own mean was chosen; the sum of the shares of candidates that were
    disqualified, of the plans that were chosen from; how often the policy might act.
    expected, realised: `[B]` cost of the executed steps, as imagined and as it came.
    error: `[B]` running mean of e / (e + c) at the ends of plans: e is the distance
    from what was expected to what is seen, c the distance moved since the plan began,
    in standardised units. num_fallback: `[B]` steps on which the policy acted instead.
    seen: the candidates that the plan was chosen from; None unless they are asked for.
    """

    action: jax.Array
    obs: jax.Array
    cost: jax.Array
    age: jax.Array
    is_kept: jax.Array
    is_idle: jax.Array
    num_plans: jax.Array
    num_own: jax.Array
    num_out: jax.Array
    num_idle: jax.Array
    expected: jax.Array
    realised: jax.Array
    error: jax.Array
    num_fallback: jax.Array
    seen: "Seen | None" = None


class Seen(NamedTuple):
    """Candidates of B rows, for pictures and studies.

    obs: `[B, N, T, O]` what each expects to see, environment units; action:
    `[B, N, T, A]`; reward, cost: `[B, N, T]`. is_in: `[B, N]` bool, which could be
    chosen. chosen: `[B]` int32. allowed: `[B]` what T steps might cost.
    """

    obs: jax.Array
    action: jax.Array
    reward: jax.Array
    cost: jax.Array
    is_in: jax.Array
    chosen: jax.Array
    allowed: jax.Array


def empty(
    count: int,
    config: PlanConfig,
    obs_dim: int,
    action_dim: int,
    *,
    keeps_candidates: bool = False,
) -> Plan:
    """No plan yet: every row is due."""
    zeros, none = jnp.zeros(count), jnp.zeros(count, jnp.int32)
    seen = None
    if keeps_candidates:
        shape = (count, config.num_candidates, config.horizon)
        seen = Seen(
            obs=jnp.zeros((*shape, obs_dim)),
            action=jnp.zeros((*shape, action_dim)),
            reward=jnp.zeros(shape),
            cost=jnp.zeros(shape),
            is_in=jnp.zeros(shape[:2], bool),
            chosen=none,
            allowed=zeros,
        )
    return Plan(
        action=jnp.zeros((count, config.horizon, action_dim)),
        obs=jnp.zeros((count, config.horizon, obs_dim)),
        cost=jnp.zeros((count, config.horizon)),
        age=jnp.full(count, config.execute, jnp.int32),
        is_kept=jnp.zeros(count, bool),
        is_idle=jnp.zeros(count, bool),
        num_plans=none,
        num_own=none,
        num_out=zeros,
        num_idle=none,
        expected=zeros,
        realised=zeros,
        error=zeros,
        num_fallback=none,
        seen=seen,
    )


def judged(plan: Plan, obs, cost, is_running, standardise, config: PlanConfig) -> Plan:
    """The account of the step that was just made, before anything is planned anew.

    obs: `[B, O]` seen now, environment units. cost: `[B]` of the step just made.
    """
    rows = jnp.arange(plan.age.shape[0])
    acted = is_running & plan.is_kept & (plan.age > 0) & trusted(plan, config)
    before = jnp.clip(plan.age - 1, 0, config.horizon - 1)
    plan = plan.replace(
        expected=plan.expected + jnp.where(acted, plan.cost[rows, before], 0.0),
        realised=plan.realised + jnp.where(acted, cost, 0.0),
    )
    # At a plan's end: did the model foresee more than that nothing moves?
    ends = acted & (plan.age == config.execute) & (config.execute < config.horizon)
    place = jnp.clip(plan.age, 0, config.horizon - 1)
    now = standardise(obs)
    error = jnp.linalg.norm(now - standardise(plan.obs[rows, place]), axis=1)
    moved = jnp.linalg.norm(now - standardise(plan.obs[:, 0]), axis=1)
    share = error / jnp.maximum(error + moved, 1e-9)
    keep = config.error_memory
    mean = keep * plan.error + (1 - keep) * share
    return plan.replace(error=jnp.where(ends, mean, plan.error))


def trusted(plan: Plan, config: PlanConfig) -> jax.Array:
    """`[B]` bool: whether the model foresees enough for its plans to be executed.

    1/2 is a model that errs as much as things move: no better than that they stay. Each
    plan counts by its share, so that one jump nobody can foresee, a goal that appears
    elsewhere, weighs as one plan. A row that lost its trust does not plan again: there
    is nothing to judge by.
    """
    return plan.error <= config.max_error


def summary(plan: Plan | None, count: int) -> dict[str, jax.Array]:
    """Name -> `[B]`: what the plans of an episode came to; None: there are none."""
    if plan is None:
        nan, none = jnp.full(count, jnp.nan), jnp.zeros(count, jnp.int32)
        shares = ("plan_own", "plan_out", "plan_idle")
        shares += ("plan_expected", "plan_realised")
        found = dict.fromkeys((*shares, "plan_error"), nan)
        return {"num_plans": none, **found, "plan_fallback": none}
    some = jnp.maximum(plan.num_plans, 1)
    return {
        "num_plans": plan.num_plans,
        "plan_own": plan.num_own / some,
        "plan_out": plan.num_out / some,
        "plan_idle": plan.num_idle / some,
        "plan_expected": plan.expected,
        "plan_realised": plan.realised,
        "plan_error": plan.error,
        "plan_fallback": plan.num_fallback,
    }
