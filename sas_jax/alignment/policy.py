"""The aligned policy: chooses a prompt when an episode begins, then acts with it.

Rows are episodes x variants. All variants of an episode share the noise of their
actions too, so that they differ by their prompt alone; `null` has another stream.

A row's stream splits by purpose: 0 actions, 1 alignment, 2 re-alignment, 3 drift,
4 the gate's further candidates.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from sas_jax.alignment import drift as drift_lib
from sas_jax.alignment import guidance
from sas_jax.alignment import plan as plan_lib
from sas_jax.alignment.algorithm1 import Alignment
from sas_jax.alignment.asked import asked
from sas_jax.alignment.beginning import align_episode, begin, initial_carry
from sas_jax.alignment.carry import (
    ACTIONS,
    DRIFT,
    GATE,
    Carry,
    Policy,
    Setup,
    keys_for,
    of_rows,
)
from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.diagnostics import Diagnostics
from sas_jax.alignment.gate import RiskModel, pass_gate
from sas_jax.alignment.in_flight import realigned
from sas_jax.alignment.planning import executed, planned
from sas_jax.alignment.recall import Recall, remembered
from sas_jax.alignment.return_model import ReturnModel
from sas_jax.alignment.sequence_model import SequenceModel, checked
from sas_jax.alignment.tiles import Tiling
from sas_jax.alignment.variants import (
    VARIANTS,
    check_companions,
    check_variants,
    companions_of,
    planning_of,
    recalling_of,
    valuing_of,
)
from sas_jax.errors import UserError
from sas_jax.gaussian import action_log_prob, normal_rows
from sas_jax.types import Key, TimeStep


def _check_size(carry: Carry, ts: TimeStep) -> None:
    """Raises UserError for observations of another size than the model's."""
    found, expected = ts.obs.shape[-1], carry.state.obs.shape[-1]
    if found != expected:
        raise UserError(
            f"observations of size {found}; expected {expected} as in the data that "
            "the model was trained on"
        )


def _check_parts(
    model,
    config,
    variants,
    risk_model,
    plan_model,
    return_model,
    support_model,
    recall,
) -> None:
    """Raises UserError where a variant or setting needs what was not given."""
    recalling = recalling_of(variants)
    if recalling is not None and recall is None:
        raise UserError(
            f"variants: {recalling} needs a memory beside the model's; none was given"
        )
    given = {"critic": risk_model, "asking": return_model, "support": support_model}
    check_companions(variants, given)
    valuing = valuing_of(variants)
    if valuing is not None and risk_model.value is None:
        raise UserError(
            f"variants: {valuing} needs a cost critic with a value; this RiskModel has "
            "none"
        )
    if config.track_drift and (model.foresee is None or model.score is None):
        raise UserError(
            "track_drift: the model has no foresee and score; expected a SequenceModel "
            "with both"
        )
    planning = planning_of(variants)
    if planning is not None:
        for name in ("advance", "action_dim"):
            if getattr(plan_model, name) is None:
                raise UserError(
                    f"variants: {planning} needs a model with {name!r}, which this one "
                    "lacks (from_history_policy makes it where `outcome` is given)"
                )


def make_policy(
    model: SequenceModel,
    config: SASConfig,
    *,
    variants: tuple[str, ...],
    horizon: int,
    target_return: float,
    max_cost: float = 1.0,
    report_limits: tuple[float, ...] | None = None,
    episode_steps: int | None = None,
    risk_model: RiskModel | None = None,
    tiling: Tiling | None = None,
    keep: Callable[[Alignment], dict[str, jax.Array]] | None = None,
    plan_model: SequenceModel | None = None,
    keeps_candidates: bool = False,
    return_model: ReturnModel | None = None,
    support_model: RiskModel | None = None,
    recall: Recall | None = None,
) -> Policy:
    """Builds the policy of a sequence model under some variants.

    Rows come variant by variant: row `v * E + e` is episode e under `variants[v]`, so a
    batch holds E episodes times all variants. `variables` is a dict with the model's
    "params" and "variances".

    Args:
      model: step functions. variants: static names. horizon: T of imagination.
      target_return: return token at the start of an episode.
      max_cost: C_max, the largest cost of a step.
      report_limits: thresholds at which the invariant set is reported; None means each
        row's own.
      episode_steps: longest episode; re-alignment counts no imagined step beyond it.
      risk_model: cost critic of the variants that need one.
      tiling: how `begin` works off the imaginations of all rows; None means side by
        side, on one device.
      keep: what the diagnostics say besides (`kept_...`) of the alignment that an
        episode began with, the same for all its variants; for measurements.
      plan_model: the model as plans are imagined with it, its `log_density` that of the
        data's states; None means `model`.
      keeps_candidates: plans keep what they were chosen from, for pictures.
      return_model: of the variants that learnt which return to ask for.
      support_model: whose risk is how far a step lies off the data, of the variants
        whose plans keep to them.
      recall: memory of the variants whose plans count what the whole episode has seen.

    Raises:
      UserError: an unknown variant, or one that lacks the model it needs; drift of a
        model that cannot score observations, plans of one that cannot `advance`.
    """
    variants = check_variants(variants)
    plan_model = model if plan_model is None else plan_model
    given = risk_model, plan_model, return_model, support_model, recall
    _check_parts(model, config, variants, *given)
    needed = companions_of(variants)
    setup = Setup(
        model=checked(model),
        config=config,
        variants=variants,
        horizon=horizon,
        target_return=target_return,
        max_cost=max_cost,
        report_limits=report_limits,
        episode_steps=episode_steps,
        # Where nobody asks it, the variables may hold no critic.
        risk_model=risk_model if "critic" in needed else None,
        tiling=tiling,
        keep=keep,
        plan_model=checked(plan_model) if planning_of(variants) else None,
        keeps_candidates=keeps_candidates,
        return_model=return_model if "asking" in needed else None,
        support_model=support_model if "support" in needed else None,
        recall=None if recalling_of(variants) is None else recall,
    )

    def sized(function):
        """`begin` or `act`, after a look at the size of what is observed."""

        @functools.wraps(function)
        def run(variables, carry, ts, key):
            _check_size(carry, ts)
            return function(setup, variables, carry, ts, key)

        return run

    return Policy(
        initial_carry=functools.partial(initial_carry, setup),
        begin=sized(begin),
        act=sized(act),
        diagnostics=diagnostics,
        align_episode=functools.partial(align_episode, setup),
        narrow=functools.partial(narrow, setup),
        mean_action=functools.partial(mean_action, setup),
    )


def seen(setup: Setup, carry: Carry, ts: TimeStep) -> Carry:
    """The carry once it has seen what the last step brought, before it acts."""
    first, state = ts.is_first, carry.state
    state = state.replace(
        obs=setup.model.standardise(ts.obs),
        timestep=jnp.where(first, 0, state.timestep),
        return_to_go=jnp.where(
            first, carry.target_return, state.return_to_go - ts.reward
        ),
        cost_to_go=jnp.where(first, carry.cost_limit, state.cost_to_go - ts.cost),
    )
    return carry.replace(state=state)


def mean_action(setup: Setup, variables, carry: Carry, ts: TimeStep) -> jax.Array:
    """The policy's own mean `[B, A]`, with its prompt; no plan, no gate, no noise."""
    carry = asked(setup, variables, seen(setup, carry, ts))
    return guidance.observed(setup, variables, carry)[0].mean


def act(setup: Setup, variables, carry: Carry, ts: TimeStep, key: Key):
    """One action per row; return and cost tokens follow what really happened."""
    del key
    model = setup.model
    carry = asked(setup, variables, seen(setup, carry, ts))
    carry = remembered(setup, carry, ts.obs, ts.is_first)
    is_running = ts.is_running
    if is_running is None:
        is_running = jnp.ones_like(ts.is_first)
    if setup.config.realign_every and carry.prompt is not None:
        carry = realigned(setup, variables, carry, ts.obs, is_running)
    if carry.plan is not None:
        carry = planned(setup, variables, carry, ts, is_running)
    observed, free = guidance.observed(setup, variables, carry)
    sample = observed.mean
    if setup.config.sample_actions:
        keys = keys_for(ACTIONS, carry.keys, carry.state.timestep)
        noise = normal_rows(keys, sample.shape[1:])
        scale = of_rows(carry, lambda v: VARIANTS[v].action_scale)
        if (scale != 1.0).any():
            noise = jnp.asarray(scale, noise.dtype)[:, None] * noise
        sample = sample + jnp.exp(observed.log_std) * noise
    if carry.num_gated is not None:
        sample, carry = gated(setup, variables, carry, observed, sample, is_running)
    if carry.plan is not None:
        sample, carry = executed(setup, carry, sample, is_running)
    action = jnp.clip(sample, -1.0, 1.0)
    carry = guidance.committed(setup, variables, carry, free, action)
    given = (variables, carry.state, observed, action, carry.prompt)
    if carry.drift is None:
        return action, carry.replace(state=model.commit(*given))
    state, prediction = model.foresee(*given)
    drift = drifted(
        setup, variables, carry, ts.obs, observed, action, prediction, is_running
    )
    return action, carry.replace(state=state, drift=drift)


def gated(setup: Setup, variables, carry: Carry, observed, sample, is_running):
    """The rows' samples `[B, A]` after the gate, and the carry that counted."""
    shape = (setup.config.gate_actions - 1, *sample.shape[1:])
    keys = keys_for(GATE, carry.keys, carry.state.timestep)
    sample, is_other = pass_gate(
        setup.risk_model,
        setup.config,
        variables,
        observed,
        obs=carry.state.obs,
        first=sample,
        noise=normal_rows(keys, shape),
        cost_limit=carry.cost_limit,
        is_gated=of_rows(carry, lambda v: VARIANTS[v].is_gated),
    )
    num_gated = carry.num_gated + (is_other & is_running)
    return sample, carry.replace(num_gated=num_gated)


def drifted(
    setup: Setup, variables, carry: Carry, obs, observed, action, prediction, is_running
):
    """`Drift` after a step: what happened, scored as imagination would have."""
    timestep = carry.state.timestep
    keys = keys_for(DRIFT, carry.keys, timestep)
    density = setup.model.score(variables, keys, carry.drift.prediction, obs)
    density = jnp.where(timestep == 0, carry.drift.first, density)
    log_prob = action_log_prob(
        action, observed.mean, observed.log_std, is_censored=setup.model.is_censored
    )
    return drift_lib.update(
        carry.drift,
        log_density=density + log_prob,
        prediction=prediction,
        timestep=timestep,
        level=carry.diagnostics.level,
        limits=setup.limits_of(carry.cost_limit),
        is_running=is_running,
        config=setup.config,
        max_cost=setup.max_cost,
    )


def diagnostics(carry: Carry) -> dict[str, jax.Array]:
    """Name -> `[B, ...]`; see `Diagnostics`, `drift.summary` and `Carry`."""
    found = {
        field.name: getattr(carry.diagnostics, field.name)
        for field in dataclasses.fields(Diagnostics)
    }
    if carry.num_realigned is not None:
        found["num_realigned"] = carry.num_realigned
    none = jnp.zeros_like(carry.cost_limit, jnp.int32)
    found["num_gated"] = none if carry.num_gated is None else carry.num_gated
    # All variants tell the same things; of plans, where there are none, that.
    found |= plan_lib.summary(carry.plan, carry.cost_limit.shape[0])
    if carry.drift is not None:
        found |= drift_lib.summary(carry.drift)
    return found | {f"kept_{k}": v for k, v in (carry.kept or {}).items()}


def acts_as(setup: Setup, name: str) -> str:
    """The first variant that acts in the same program; it is compiled once."""

    def program(variant):
        rules = (variant.first, variant.second) if setup.config.realign_every else ()
        # All but the rules of its prompt, fields that come later among them.
        own = variant._replace(first=None, second=None)
        return variant.has_prompt, own, *rules

    mine = program(VARIANTS[name])
    return next(v for v, what in VARIANTS.items() if program(what) == mine)


def narrow(setup: Setup, carry: Carry, variant: int) -> Carry:
    """The carry of rows that are all of `setup.variants[variant]`."""
    name = setup.variants[variant]
    carry = carry.replace(variants=(acts_as(setup, name),), kept=None)
    if not VARIANTS[name].has_prompt:
        carry = carry.replace(prompt=None)
    if not VARIANTS[name].is_gated:
        carry = carry.replace(num_gated=None)
    if VARIANTS[name].plan is None:
        carry = carry.replace(plan=None)
    if not VARIANTS[name].recalls:
        carry = carry.replace(recalled=None)
    if VARIANTS[name].guidance == 1.0:
        carry = carry.replace(free=None)
    return carry
