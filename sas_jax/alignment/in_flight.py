"""Algorithm 1 again, in flight: which rows are due, and what is kept of what it finds.

Which rows are due changes from step to step: they are gathered into `sub_blocks`, and
`align_batch` aligns those.

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

from sas_jax.alignment.algorithm1 import align_batch
from sas_jax.alignment.carry import IN_FLIGHT, Carry, Setup, keys_for, rows_by_variant
from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.diagnostics import Diagnostics
from sas_jax.alignment.gate import RiskModel
from sas_jax.alignment.sequence_model import Prompt, SequenceModel
from sas_jax.alignment.sub_blocks import rows_at, work_off
from sas_jax.alignment.variants import VARIANTS
from sas_jax.types import Key, Params


class Due(NamedTuple):
    """What is known of the rows besides their states; `[B]` each.

    keys: consumed. obs: `[B, O]` present observations, environment units. limits:
    `[B, C]` thresholds at which the invariant set is reported. num_steps: steps until
    the episode ends, at least 1.
    """

    keys: Key
    obs: jax.Array
    limits: jax.Array
    num_steps: jax.Array


def realign(
    model: SequenceModel,
    variables: Params,
    state: Any,
    is_due: jax.Array,
    rows: Due,
    prompts: Prompt,
    diagnostics: Diagnostics,
    *,
    variant: str,
    config: SASConfig,
    horizon: int,
    max_cost: float = 1.0,
    risk_model: RiskModel | None = None,
) -> tuple[Prompt, Diagnostics, jax.Array]:
    """New prompts for the rows that are due; the others keep theirs.

    A row whose candidates are all disqualified keeps what it has, too.

    Args:
      state: `[B]` rows' states before they act.
      is_due: `[B]` bool. rows: what is known of them. prompts, diagnostics: `[B]`.
      variant: of all the rows. horizon: T, static. config, max_cost, risk_model: as in
        `align_batch`.

    Returns:
      prompts, diagnostics, and `[B]` bool, which rows have new ones.
    """

    def some(index, is_real, held):
        due, now = rows_at(rows, index), rows_at(state, index)
        keys = jax.vmap(jax.random.split)(due.keys)
        # No imagination predicted the present observation, as with an episode's first.
        fresh = model.start(
            variables,
            keys[:, 0],
            due.obs,
            now.return_to_go,
            now.cost_to_go,
            model.context,
        )
        found = align_batch(
            model,
            variables,
            keys[:, 1],
            now.replace(log_density=fresh.log_density, window=fresh.window),
            due.limits,
            config=config,
            variants=(variant,),
            horizon=horizon,
            num_steps=due.num_steps,
            origin=now.timestep,
            max_cost=max_cost,
            risk_model=risk_model,
        )
        new = jax.tree.map(lambda x: x[:, 0], (found.prompts, found.diagnostics))
        # A failure is written nowhere.
        is_new = new[0].is_present & is_real
        return (*new, is_new), is_new

    held = (prompts, diagnostics, jnp.zeros(is_due.shape, bool))
    return work_off(some, is_due, held)


def realigned(setup: Setup, variables, carry: Carry, obs, is_running) -> Carry:
    """Aligns the rows again whose time has come; `carry` is about to act."""
    config, timestep = setup.config, carry.state.timestep
    is_due = is_running & (timestep > 0) & (timestep % config.realign_every == 0)
    horizon = config.realign_horizon or setup.horizon
    steps = jnp.full_like(timestep, horizon)
    if setup.episode_steps is not None:
        steps = jnp.maximum(setup.episode_steps - timestep, 1)
    rows = Due(
        keys=keys_for(IN_FLIGHT, carry.keys, timestep),
        obs=obs,
        limits=setup.limits_of(carry.cost_limit),
        num_steps=steps,
    )
    held = (carry.prompt, carry.diagnostics)
    parts = []
    for name, here in rows_by_variant(carry):
        mine = rows_at(held, here)
        if not VARIANTS[name].has_prompt:
            parts.append((*mine, jnp.zeros_like(is_due[here])))
            continue
        part = realign(
            setup.model,
            variables,
            rows_at(carry.state, here),
            is_due[here],
            rows_at(rows, here),
            *mine,
            variant=name,
            config=config,
            horizon=horizon,
            max_cost=setup.max_cost,
            risk_model=setup.risk_model,
        )
        parts.append(part)
    prompts, found, is_new = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    state = carry.state
    window = jnp.where(is_new, setup.model.prompt_window, state.window)
    return carry.replace(
        state=state.replace(window=window.astype(jnp.int32)),
        prompt=prompts,
        diagnostics=found,
        num_realigned=carry.num_realigned + is_new,
    )
