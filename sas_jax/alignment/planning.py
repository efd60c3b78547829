"""Plans in the acting loop: when rows plan anew, and what they do with their plans."""

import jax
import jax.numpy as jnp

from sas_jax.alignment import choosing
from sas_jax.alignment import plan as plan_lib
from sas_jax.alignment.carry import (
    PLAN,
    Carry,
    Setup,
    keys_for,
    of_rows,
    rows_by_variant,
)
from sas_jax.alignment.sub_blocks import rows_at
from sas_jax.alignment.variants import VARIANTS
from sas_jax.types import TimeStep


def planned(
    setup: Setup, variables, carry: Carry, ts: TimeStep, is_running: jax.Array
) -> Carry:
    """Keeps the account of the step just made, and plans anew where it is time.

    A row plans when its episode begins and whenever `execute` steps of its plan have
    been made. `carry` is about to act.
    """
    config, timestep = setup.config.plan, carry.state.timestep
    count = timestep.shape[0]
    fresh = plan_lib.empty(
        count,
        config,
        ts.obs.shape[1],
        carry.plan.action.shape[-1],
        keeps_candidates=setup.keeps_candidates,
    )
    plan = jax.tree.map(
        lambda old, new: jnp.where(
            ts.is_first.reshape(-1, *(1,) * (old.ndim - 1)), new, old
        ),
        carry.plan,
        fresh,
    )
    standardise = setup.plan_model.standardise
    plan = plan_lib.judged(plan, ts.obs, ts.cost, is_running, standardise, config)
    plans = of_rows(carry, lambda v: VARIANTS[v].plan is not None)
    is_due = is_running & plans & (plan.age >= config.execute)
    is_due &= plan_lib.trusted(plan, config)
    left = setup.episode_steps or setup.horizon
    rows = choosing.Due(
        keys=keys_for(PLAN, carry.keys, timestep),
        num_steps=jnp.maximum(left - timestep, 1),
        budget=carry.state.cost_to_go,
    )
    parts = []
    for name, here in rows_by_variant(carry):
        part = rows_at(plan, here)
        if VARIANTS[name].plan is not None:
            prompt = None
            if VARIANTS[name].has_prompt:
                prompt = rows_at(carry.prompt, here)
            part = choosing.replan(
                setup.plan_model,
                variables,
                rows_at(carry.state, here),
                prompt,
                part,
                is_due[here],
                rows_at(rows, here),
                rule=VARIANTS[name].plan,
                config=setup.config,
                risk_model=setup.risk_model if VARIANTS[name].values else None,
                kept=_kept_to(setup, variables, carry, name, here),
                recalled=_recalled(setup, carry, name, here),
            )
        parts.append(part)
    return carry.replace(plan=jax.tree.map(lambda *x: jnp.concatenate(x), *parts))


def _kept_to(setup: Setup, variables, carry: Carry, name: str, here: slice):
    """What the plans of a variant's rows are kept to, or None."""
    if not VARIANTS[name].is_supported:
        return None
    model = setup.support_model
    return choosing.Kept(model.risk, model.level(variables, carry.cost_limit[here]))


def _recalled(setup: Setup, carry: Carry, name: str, here: slice):
    """What a variant's rows remember, and what costs by it; None where nothing does."""
    if not VARIANTS[name].recalls:
        return None
    return setup.recall.cost, rows_at(carry.recalled, here)


def executed(
    setup: Setup, carry: Carry, sample: jax.Array, is_running: jax.Array
) -> tuple[jax.Array, Carry]:
    """The rows' actions `[B, A]`: the plan's next one, or the policy's own `sample`."""
    plan, config = carry.plan, setup.config.plan
    plans = jnp.asarray(of_rows(carry, lambda v: VARIANTS[v].plan is not None))
    acts = plans & plan.is_kept & plan_lib.trusted(plan, config)
    idle = plan.is_idle & plan_lib.trusted(plan, config)
    rows = jnp.arange(sample.shape[0])
    action = plan.action[rows, jnp.minimum(plan.age, config.horizon - 1)]
    plan = plan.replace(
        age=plan.age + is_running,
        num_fallback=plan.num_fallback + (is_running & plans & ~acts & ~idle),
    )
    return jnp.where(acts[:, None], action, sample), carry.replace(plan=plan)
