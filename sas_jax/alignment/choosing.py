"""Acting on imagination: of the plans imagined from the present, one is executed.

Receding-horizon control with the sequence policy as proposal (kin: MBOP, Argenson and
Dulac-Arnold 2021). Every few steps it is imagined from the exact history what the
policy itself would do. Where that costs no more than the budget allows, the policy
acts. Else further candidates are imagined, and imagined cost decides (`candidates`).

The policy keeps the wheel wherever it may, because a plan is not as good as the policy
at anything but cost: among pushed candidates with little noise, the one that promises
most return is a lucky error of the model, and it leads off the map, where the model
knows nothing. It also acts where no candidate saves enough: costs that hardly differ
are no reason to leave the data (docs/results/plan.md).

A horizon that ends in front of a hazard does not see it. By variant, a cost critic says
what is still to come after the last step, and that counts as cost (`counted`).

By setting, candidates whose energy rises above that of undisturbed ones are out before
costs are compared (`support`, SAS's Lyapunov condition); by variant, those that leave
the data as a support model knows them (`Kept`).

Rows of a batch are out of phase at will: those that are due are gathered into
sub-blocks of one size, so no shape ever changes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sas_jax.alignment import lyapunov, support
from sas_jax.alignment.candidates import imagine, others, references
from sas_jax.alignment.config import PlanConfig, SASConfig
from sas_jax.alignment.gate import RiskModel
from sas_jax.alignment.plan import Plan, Seen
from sas_jax.alignment.rules import RULES, Candidates
from sas_jax.alignment.sequence_model import SequenceModel
from sas_jax.alignment.sub_blocks import rows_at, work_off
from sas_jax.shapes import expect_shape
from sas_jax.types import Key, Params, StepOutput


class Due(NamedTuple):
    """What is known of the rows besides their states; `[B]` each.

    keys: consumed. num_steps: steps until the episode ends. budget: cost that may still
    arise until then.
    """

    keys: Key
    num_steps: jax.Array
    budget: jax.Array


class Kept(NamedTuple):
    """What plans are kept to.

    score: as `RiskModel.risk`, how far a step lies off the data. level: `[B]` of the
    rows, how far that may be.
    """

    score: Callable[[Any, jax.Array, jax.Array], jax.Array]
    level: jax.Array


class Imagined(NamedTuple):
    """Candidates of R rows: outputs `[R, n, T]`.

    value: `[R, n]` cost that is still to come; peak: `[R, n]` furthest off the data;
    None where nobody asks.
    """

    outputs: StepOutput
    value: jax.Array | None
    peak: jax.Array | None


def allowed(due: Due, config: PlanConfig) -> jax.Array:
    """What the horizon may cost: the share of the budget that falls to it.

    The budget times `slack`, spread evenly over what is left of the episode.
    """
    share = jnp.minimum(config.horizon / jnp.maximum(due.num_steps, 1), 1.0)
    return config.slack * share * jnp.maximum(due.budget, 0.0)


def own_cost(outputs: StepOutput, due: Due) -> jax.Array:
    """`[]` what the policy itself is imagined to cost: the mean of the references.

    Those that are not finite do not count; NaN where none is.

    Args:
      outputs: `[R, T]` the references of one row. due: of that row.
    """
    inside = jnp.arange(outputs.cost.shape[1]) < due.num_steps
    cost = jnp.where(inside, outputs.cost, 0.0).sum(axis=1)
    return jnp.nanmean(jnp.where(is_finite(outputs), cost, jnp.nan))


def counted(outputs: StepOutput, value: jax.Array | None) -> StepOutput:
    """Outputs `[..., T]` whose last step costs `value` `[...]` more; None adds nothing.

    What lies beyond the episode's end is cut later, the value with it.
    """
    if value is None:
        return outputs
    return outputs.replace(cost=outputs.cost.at[..., -1].add(value))


def is_finite(outputs: StepOutput) -> jax.Array:
    """`[N]` bool: candidates of one row, `[N, T]`, whose predictions are all finite."""
    known = (outputs.action, outputs.obs, outputs.reward, outputs.cost)
    flat = (jnp.isfinite(x.reshape(x.shape[0], -1)).all(axis=1) for x in known)
    return jnp.stack(list(flat)).all(axis=0)


def fits(rule: str, own: jax.Array, due: Due, config: PlanConfig) -> jax.Array:
    """Whether the policy may act: what it would cost is what it may cost.

    A rule that sees no threshold allows nothing. `tolerance` is what counts as nothing;
    None lets the policy act nowhere.

    Args:
      own: `[B]` imagined cost of the policy itself.
    """
    if config.tolerance is None:
        return jnp.zeros(own.shape, bool)
    free = allowed(due, config) if RULES[rule].sees_limit else 0.0
    return own <= free + config.tolerance


def choose(
    rule: str,
    key: Key,
    outputs: StepOutput,
    due: Due,
    sas: SASConfig,
    off: tuple[jax.Array, jax.Array] | None = None,
) -> tuple[lyapunov.Selection, jax.Array]:
    """A rule's choice among one row's candidates `[N, T]`, and `[N]` which were in.

    Steps after the episode's end bring neither reward nor cost.

    Args:
      off: `[N]` how far off the data each goes, and `[]` how far it may; see `Kept`.
    """
    horizon, count = sas.plan.horizon, sas.plan.num_candidates
    inside = jnp.arange(horizon)[None, :] < due.num_steps
    reward = jnp.where(inside, outputs.reward, 0.0)
    cost = jnp.where(inside, outputs.cost, 0.0)
    is_reference = jnp.arange(count) < sas.plan.num_reference
    energies, counts, is_in = support.by_energy(outputs.log_density, is_reference, sas)
    is_in &= is_finite(outputs)
    if off is not None:
        is_in &= support.by_score(*off, is_reference)
    seen = Candidates(
        energies=energies,
        reward=jnp.where(is_in[:, None], reward, 0.0),
        cost=jnp.where(is_in[:, None], cost, 0.0),
        risk=None,
        level=jnp.full((), jnp.nan),
        cost_limits=allowed(due, sas.plan)[None],
        num_steps=jnp.minimum(due.num_steps, horizon),
        counts=counts,
        is_valid=is_in,
    )
    return RULES[rule].choose(key, seen, sas), is_in


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
    risk_model: RiskModel | None = None,
    kept: Kept | None = None,
    recalled: tuple[Callable, Any] | None = None,
) -> Plan:
    """New plans for the rows that are due; the others keep theirs.

    First what the policy itself would do, for all rows that are due; then the further
    candidates where it may not.

    Args:
      state, prompt, plan: `[B]` rows. is_due: `[B]` bool. rule: of all the rows.
      risk_model: whose value counts after the last step; None: nothing does.
      kept: what they are kept to; None: nothing.
      recalled: `Recall.cost`, and the rows' memories; None: there are none.
    """

    def asked(function, name, obs, action):
        """`[R, n, ...]` of a function of single steps."""
        shape = obs.shape[:-1]
        obs, action = (x.reshape(-1, x.shape[-1]) for x in (obs, action))
        found = function(variables, model.standardise(obs), action)
        expect_shape(name, name, found, obs.shape[0])
        return found.reshape(shape)

    def imagined(index, which):
        outputs = imagine(
            model,
            variables,
            rows_at(rows.keys, index),
            rows_at(state, index),
            None if prompt is None else rows_at(prompt, index),
            rows_at(plan, index),
            config.plan,
            which,
        )
        if recalled is not None:
            cost_of, memory = recalled
            cost = cost_of(variables, rows_at(memory, index), outputs.obs, outputs.cost)
            expect_shape("recall.cost", "cost", cost, *outputs.cost.shape)
            outputs = outputs.replace(cost=cost)
        steps, value, peak = (outputs.obs, outputs.action), None, None
        if risk_model is not None:
            assert risk_model.value is not None  # looked at when the policy was made
            last = (x[:, :, -1] for x in steps)
            value = asked(risk_model.value, "risk_model.value", *last)
        if kept is not None:
            peak = asked(kept.score, "support_model.risk", *steps).max(axis=2)
        return Imagined(outputs, value, peak)

    def own(index, is_real, held):
        del held
        return imagined(index, references(config.plan)), is_real

    def chosen(index, is_real, plan):
        outputs, value, peak = jax.tree.map(
            lambda *x: jnp.concatenate(x, axis=1),
            rows_at(known, index),
            imagined(index, others(config.plan)),
        )
        judged = counted(outputs, value)
        due = rows_at(rows, index)
        rule_keys = jax.vmap(lambda key: jax.random.fold_in(key, 2))(due.keys)
        off = None if kept is None else (peak, kept.level[index])
        found, is_in = jax.vmap(
            lambda key, outputs, due, off: choose(rule, key, outputs, due, config, off)
        )(rule_keys, judged, due, off)
        seen = Seen(
            obs=outputs.obs,
            action=outputs.action,
            reward=outputs.reward,
            cost=outputs.cost,
            is_in=is_in,
            chosen=found.index,
            allowed=allowed(due, config.plan),
        )
        new = _taken(rows_at(plan, index), outputs, found, seen)
        here = jnp.arange(index.shape[0])
        is_idle = may_act[index] | _saves_little(
            judged.cost[here, found.index], own_costs[index], due, config.plan
        )
        is_idle &= found.is_valid
        new = new.replace(is_kept=found.is_valid & ~is_idle, is_idle=is_idle)
        return new, is_real

    every = jnp.arange(is_due.shape[0])
    empty = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype),
        jax.eval_shape(lambda: imagined(every, references(config.plan))),
    )
    known = work_off(own, is_due, empty)
    own_costs = jax.vmap(own_cost)(counted(known.outputs, known.value), rows)
    may_act = is_due & fits(rule, own_costs, rows, config.plan)
    # Pictures show all candidates, of plans too that nobody needs.
    needed = is_due if plan.seen is not None else is_due & ~may_act
    new = work_off(chosen, needed, plan)
    new = new.replace(
        age=jnp.where(is_due, 0, new.age),
        is_kept=new.is_kept & ~may_act,
        is_idle=new.is_idle | may_act,
    )
    return new.replace(
        num_plans=new.num_plans + is_due,
        num_idle=new.num_idle + (is_due & new.is_idle),
    )


def _saves_little(cost: jax.Array, own: jax.Array, due: Due, config: PlanConfig):
    """`[B]` bool: a plan that costs hardly less than the policy itself.

    A cost head that tells nothing apart gives costs that hardly differ. To leave the
    data for them is to leave it for nothing.

    Args:
      cost: `[B, T]` of the chosen candidates. own: `[B]`.
    """
    if config.tolerance is None:
        return jnp.zeros(own.shape, bool)
    inside = jnp.arange(cost.shape[1])[None, :] < due.num_steps[:, None]
    saved = own - jnp.where(inside, cost, 0.0).sum(axis=1)
    return saved <= config.tolerance + config.least_saving * own


def _taken(
    old: Plan, outputs: StepOutput, chosen: lyapunov.Selection, seen: Seen
) -> Plan:
    """The rows' chosen candidates as their plans."""
    rows = jnp.arange(old.age.shape[0])

    def pick(x):
        # A weight of zero does not hide what is not a number.
        x = x[rows, chosen.index]
        found = chosen.is_valid.reshape(-1, *(1,) * (x.ndim - 1))
        return jnp.where(found, x, 0.0)

    return old.replace(
        action=pick(outputs.action),
        obs=pick(outputs.obs),
        cost=pick(outputs.cost),
        num_own=old.num_own + (chosen.is_valid & (chosen.index == 0)),
        num_out=old.num_out + 1.0 - seen.is_in.mean(axis=1),
        seen=None if old.seen is None else seen,
    )
