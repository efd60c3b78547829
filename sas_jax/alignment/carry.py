"""What the aligned policy is made of, carries from step to step, and offers."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from sas_jax.alignment.algorithm1 import Alignment
from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.diagnostics import Diagnostics
from sas_jax.alignment.drift import Drift
from sas_jax.alignment.gate import RiskModel
from sas_jax.alignment.plan import Plan
from sas_jax.alignment.return_model import ReturnModel
from sas_jax.alignment.sequence_model import ModelState, SequenceModel
from sas_jax.alignment.tiles import Tiling
from sas_jax.types import Key


@struct.dataclass
class Carry:
    """What the aligned policy remembers, one row per episode x variant.

    variants: static names; rows come variant by variant, as many of each. A narrowed
    carry names the first variant that acts as its own does.
    state, prompt, diagnostics: see their types; prompt is None without variants that
    have one. keys: `[B]` each row's stream. cost_limit, target_return: `[B]`.
    num_realigned: `[B]` new prompts since the episode began; None unless the policy
    re-aligns. drift: None unless tracked. num_gated: `[B]` how often a gate chose
    another action; None unless some variant has a gate. plan: the plans in hand; None
    unless some variant plans.
    kept: name -> `[B, ...]`, what is kept of the alignment at the start; None where
    nothing is, and in every narrowed carry.
    free: the same episodes as somebody without a limit on cost has seen them; None
    unless some variant is guided. recalled: what the rows remember beside the model's
    memory; None unless some variant recalls (`recall`).
    """

    state: ModelState
    prompt: Any
    diagnostics: Diagnostics
    keys: Key
    target_return: jax.Array
    cost_limit: jax.Array
    num_realigned: jax.Array | None = None
    drift: Drift | None = None
    num_gated: jax.Array | None = None
    plan: Plan | None = None
    kept: dict[str, jax.Array] | None = None
    free: ModelState | None = None
    recalled: Any = None
    variants: tuple[str, ...] = struct.field(pytree_node=False, default=())


class Policy(NamedTuple):
    """The acting half of a `Learner`, and Algorithm 1 as it runs it.

    narrow(carry, variant) -> the carry of rows that are all of one variant, a static
    index, without what that variant has no use for. The program that acts on it is then
    the variant's own, whichever others began beside it.
    align_episode(variables, row key, obs `[O]`, cost_limits `[C]`, target_return=None)
    -> Alignment: what `begin` does for one episode, with the same draws; for pictures
    and diagnostics.
    mean_action(variables, carry, timestep) -> `[B, A]`; see `types.Policy`.
    """

    initial_carry: Callable[..., Carry]
    begin: Callable[..., Carry]
    act: Callable[..., tuple[jax.Array, Carry]]
    diagnostics: Callable[[Carry], dict[str, jax.Array]]
    align_episode: Callable[..., Alignment]
    narrow: Callable[[Carry, int], Carry]
    mean_action: Callable[..., jax.Array] | None = None


@dataclasses.dataclass(frozen=True)
class Setup:
    """What an aligned policy is made of; the arguments of `policy.make_policy`."""

    model: SequenceModel
    config: SASConfig
    variants: tuple[str, ...]
    horizon: int
    target_return: float
    max_cost: float
    report_limits: tuple[float, ...] | None
    episode_steps: int | None
    risk_model: RiskModel | None
    tiling: Tiling | None
    keep: Callable[[Alignment], dict[str, jax.Array]] | None
    plan_model: SequenceModel | None = None
    keeps_candidates: bool = False
    return_model: ReturnModel | None = None
    support_model: RiskModel | None = None
    recall: Any = None

    @property
    def num_limits(self) -> int:
        """C, thresholds at which the invariant set is reported."""
        return len(self.report_limits or (0.0,))

    def limits_of(self, cost_limit: jax.Array) -> jax.Array:
        """`[B]` thresholds of the rows -> `[B, C]` at which their sets are reported."""
        if self.report_limits is None:
            return cost_limit[:, None]
        limits = jnp.asarray(self.report_limits)[None, :]
        return jnp.broadcast_to(limits, (cost_limit.shape[0], self.num_limits))


# A row's stream of draws splits by purpose.
ACTIONS, ALIGNMENT, IN_FLIGHT, DRIFT, GATE, PLAN = range(6)


def keys_for(purpose: int, keys: Key, timestep: jax.Array) -> Key:
    """`[B]` keys of the rows' draws of one purpose at their present time steps."""

    def one(row_key, t):
        return jax.random.fold_in(jax.random.fold_in(row_key, purpose), t)

    return jax.vmap(one)(keys, timestep)


def rows_by_variant(carry: Carry) -> list[tuple[str, slice]]:
    """Each variant with its rows, in their order. Static, as variants are."""
    episodes = carry.cost_limit.shape[0] // len(carry.variants)
    return [
        (name, slice(i * episodes, (i + 1) * episodes))
        for i, name in enumerate(carry.variants)
    ]


def of_rows(carry: Carry, value: Callable[[str], Any]) -> np.ndarray:
    """`[B]`: what `value` says of each row's variant. Static, as variants are."""
    episodes = carry.cost_limit.shape[0] // len(carry.variants)
    return np.repeat([value(v) for v in carry.variants], episodes)
