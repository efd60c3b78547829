"""Acting on imagination: of the plans imagined from the present, one is executed.

Receding-horizon control with the sequence policy as proposal (kin: MBOP, Argenson and
Dulac-Arnold 2021). Every few steps N candidates of T steps are imagined from the exact
history. Imagined cost decides; the Lyapunov energy says where the imagination may be
believed. What makes it work (docs/results/plan.md):

- Candidates differ, because most of a candidate's action noise is one draw for all of
  its steps. Independent noise averages out: all candidates go the same way.
- Their differences are real, because the world's own noise is the same for all of them
  (by default none). Otherwise the best of N is the luckiest draw.
- The policy acts by itself where no candidate would cost anything (`harmless`). Without
  that, plans run off the map, where the model knows nothing.

By setting, candidates whose energy rises above that of undisturbed ones are out before
costs are compared (`support`, SAS's Lyapunov condition).

Rows of a batch are out of phase at will: those that are due are gathered into
sub-blocks of one size, so no shape ever changes.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from sas_jax.alignment import lyapunov, support
from sas_jax.alignment.config import PlanConfig, SASConfig
from sas_jax.alignment.rules import RULES, Candidates
from sas_jax.alignment.sequence_model import SequenceModel
from sas_jax.alignment.sub_blocks import rows_at, work_off
from sas_jax.gaussian import normal_rows
from sas_jax.shapes import expect_shape
from sas_jax.types import Key, Params, StepOutput


@struct.dataclass
class Plan:
    """The plan in hand and the account of those before, one row per episode.

    action: `[B, T, A]` of the chosen candidate. obs: `[B, T, O]` what it expects to see
    (environment units); cost: `[B, T]`. age: `[B]` int32 steps since it was made.
    is_kept: `[B]` bool, False where the policy acts: every candidate was out, or
    is_idle: `[B]` bool, none of them would cost anything.
    num_plans, num_own, num_out, num_idle: `[B]` how often was planned; how often the
    policy's own mean was chosen; the sum of the shares of candidates that were
    disqualified; how often nothing would cost.
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
    """Candidates of B rows, for pictures.

    obs: `[B, N, T, O]` what each expects to see, environment units; cost: `[B, N, T]`.
    is_in: `[B, N]` bool, which could be chosen. chosen: `[B]` int32.
    """

    obs: jax.Array
    cost: jax.Array
    is_in: jax.Array
    chosen: jax.Array


class Due(NamedTuple):
    """What is known of the rows besides their states; `[B]` each.

    keys: consumed. num_steps: steps until the episode ends. budget: cost that may still
    arise until then.
    """

    keys: Key
    num_steps: jax.Array
    budget: jax.Array


class Imagined(NamedTuple):
    """Candidates of B rows: outputs `[B, N, T, ...]`, and which have no push `[N]`."""

    outputs: StepOutput
    is_reference: jax.Array


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
            cost=jnp.zeros(shape),
            is_in=jnp.zeros(shape[:2], bool),
            chosen=none,
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


def imagine_candidates(
    model: SequenceModel,
    variables: Params,
    keys: Key,
    state: Any,
    prompt: Any,
    plan: Plan,
    config: PlanConfig,
) -> Imagined:
    """N candidates of T steps from each row's present state.

    The first `num_reference` candidates have no push: candidate 0 is the policy's mean
    at every step, the others add the noise that changes from step to step. The next one
    goes on with the plan in hand. All further ones have a push of their own:
    eps_t = scale (rho push + sqrt(1 - rho^2) xi_t), in units of the policy's deviation.

    Args:
      keys: `[B]`, consumed. state, prompt, plan: of B rows.
    """
    count, size = keys.shape[0], config.num_candidates
    index = jnp.arange(size)
    is_reference = index < config.num_reference
    goes_on = (index == config.num_reference)[None, :] & plan.is_kept[:, None]
    rho, scale = config.persistence, config.action_scale
    # The mean itself, and noise for all others; a push for those that are no reference.
    loud = scale * (index > 0) * (1.0 - rho**2) ** 0.5
    pushed = scale * rho * ~(is_reference | (index == config.num_reference))

    def wide(tree):
        return jax.tree.map(
            lambda x: jnp.repeat(x, size, axis=0) if x.ndim else x, tree
        )

    candidates = jax.vmap(
        lambda key: jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
    )(jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys)).reshape(-1)
    # One stream of the world's noise for all candidates of a row.
    world = wide(jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys))
    actions = plan.action.shape[-1]
    push = normal_rows(candidates, (actions,))
    push = jnp.tile(pushed, count)[:, None] * push
    held = wide(plan.action)
    goes_on = goes_on.reshape(-1)
    age = wide(plan.age)

    def advance(state, t):
        observed = model.observe(variables, state, wide_prompt)
        step_keys = jax.vmap(lambda key: jax.random.fold_in(key, t + 1))(candidates)
        noise = jnp.tile(loud, count)[:, None] * normal_rows(step_keys, (actions,))
        sample = observed.mean + jnp.exp(observed.log_std) * (push + noise)
        place = age + t
        planned = jnp.take_along_axis(
            held, jnp.minimum(place, config.horizon - 1)[:, None, None], axis=1
        )[:, 0]
        follows = goes_on & (place < config.horizon)
        action = jnp.where(follows[:, None], planned, jnp.clip(sample, -1.0, 1.0))
        output, state = model.advance(
            variables, world, state, observed, action, wide_prompt, config.world_noise
        )
        expect_shape("advance", "reward", output.reward, count * size)
        return state, output

    wide_prompt = None if prompt is None else wide(prompt)
    _, outputs = jax.lax.scan(advance, wide(state), jnp.arange(config.horizon))
    outputs = jax.tree.map(
        lambda x: jnp.moveaxis(x, 0, 1).reshape(
            count, size, config.horizon, *x.shape[2:]
        ),
        outputs,
    )
    return Imagined(outputs, is_reference)


def choose(
    rule: str,
    key: Key,
    outputs: StepOutput,
    is_reference: jax.Array,
    due: Due,
    sas: SASConfig,
) -> tuple[lyapunov.Selection, jax.Array, jax.Array]:
    """A rule's choice among one row's candidates `[N, T]`.

    Steps after the episode's end bring neither reward nor cost. What the horizon may
    cost is the share of the budget that falls to it: the budget times `slack`, spread
    evenly over what is left of the episode.
    """
    horizon = sas.plan.horizon
    inside = jnp.arange(horizon)[None, :] < due.num_steps
    reward = jnp.where(inside, outputs.reward, 0.0)
    cost = jnp.where(inside, outputs.cost, 0.0)
    energies, counts, is_in = support.by_energy(outputs.log_density, is_reference, sas)
    known = (outputs.action, outputs.obs, outputs.reward, outputs.cost)
    for x in known:
        is_in &= jnp.all(jnp.isfinite(x.reshape(x.shape[0], -1)), axis=1)
    share = jnp.minimum(horizon / jnp.maximum(due.num_steps, 1), 1.0)
    allowed = sas.plan.slack * share * jnp.maximum(due.budget, 0.0)
    seen = Candidates(
        energies=energies,
        reward=jnp.where(is_in[:, None], reward, 0.0),
        cost=jnp.where(is_in[:, None], cost, 0.0),
        risk=None,
        level=jnp.full((), jnp.nan),
        cost_limits=allowed[None],
        num_steps=jnp.minimum(due.num_steps, horizon),
        counts=counts,
        is_valid=is_in,
    )
    chosen = RULES[rule].choose(key, seen, sas)
    return chosen, is_in, harmless(seen.cost, is_in, sas.plan)


def replan(
    model: SequenceModel,
    variables: Params,
    state: Any,
    prompt: Any,
    plan: Plan,
    is_due: jax.Array,
    rows: Due,
    *,
    rule: str,
    config: SASConfig,
) -> Plan:
    """New plans for the rows that are due; the others keep theirs.

    Args:
      state, prompt, plan: `[B]` rows. is_due: `[B]` bool. rule: of all the rows.
    """

    def some(index, is_real, plan):
        due, old = rows_at(rows, index), rows_at(plan, index)
        imagined = imagine_candidates(
            model,
            variables,
            due.keys,
            rows_at(state, index),
            None if prompt is None else rows_at(prompt, index),
            old,
            config.plan,
        )
        rule_keys = jax.vmap(lambda key: jax.random.fold_in(key, 2))(due.keys)
        chosen, is_in, is_idle = jax.vmap(
            lambda key, outputs, due: choose(
                rule,
                key,
                outputs,
                imagined.is_reference,
                due,
                config,
            )
        )(rule_keys, imagined.outputs, due)
        return _taken(old, imagined.outputs, chosen, is_in, is_idle), is_real

    return work_off(some, is_due, plan)


def harmless(cost: jax.Array, is_in: jax.Array, config: PlanConfig) -> jax.Array:
    """`[]` bool: no candidate, whatever it does, would cost anything.

    There is nothing to choose then, and the policy acts better by itself, with all of
    its noise. Candidates have little noise that changes from step to step, and without
    it a policy goes straight on where its data turn left as often as right.

    Args:
      cost: `[N, T]`, 0 for candidates that are out. is_in: `[N]` bool.
    """
    if config.tolerance is None:
        return jnp.zeros((), bool)
    return is_in.any() & (cost.sum(axis=1).max() <= config.tolerance)


def _taken(
    old: Plan, outputs: StepOutput, chosen: lyapunov.Selection, is_in, is_idle
) -> Plan:
    """The rows' chosen candidates as their plans."""
    rows = jnp.arange(old.age.shape[0])

    def pick(x):
        # A weight of zero does not hide what is not a number.
        x = x[rows, chosen.index]
        found = chosen.is_valid.reshape(-1, *(1,) * (x.ndim - 1))
        return jnp.where(found, x, 0.0)

    seen = Seen(outputs.obs, outputs.cost, is_in, chosen.index)
    return old.replace(
        action=pick(outputs.action),
        obs=pick(outputs.obs),
        cost=pick(outputs.cost),
        age=jnp.zeros_like(old.age),
        is_kept=chosen.is_valid & ~is_idle,
        is_idle=is_idle,
        num_plans=old.num_plans + 1,
        num_own=old.num_own + (chosen.is_valid & (chosen.index == 0)),
        num_out=old.num_out + 1.0 - is_in.mean(axis=1),
        num_idle=old.num_idle + is_idle,
        seen=None if old.seen is None else seen,
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
