"""What the aligned policy carries from step to step, and what it offers (`policy`)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import struct

from sas_jax.alignment.algorithm1 import Alignment
from sas_jax.alignment.diagnostics import Diagnostics
from sas_jax.alignment.drift import Drift
from sas_jax.alignment.sequence_model import ModelState
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
    another action; None unless some variant has a gate.
    kept: name -> `[B, ...]`, what is kept of the alignment at the start; None where
    nothing is, and in every narrowed carry.
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
    kept: dict[str, jax.Array] | None = None
    variants: tuple[str, ...] = struct.field(pytree_node=False, default=())


class Policy(NamedTuple):
    """The acting half of a `Learner`, and Algorithm 1 as it runs it.

    narrow(carry, variant) -> the carry of rows that are all of one variant, a static
    index, without what that variant has no use for. The program that acts on it is then
    the variant's own, whichever others began beside it.
    align_episode(variables, row key, obs `[O]`, cost_limits `[C]`, target_return=None)
    -> Alignment: what `begin` does for one episode, with the same draws; for pictures
    and diagnostics.
    """

    initial_carry: Callable[..., Carry]
    begin: Callable[..., Carry]
    act: Callable[..., tuple[jax.Array, Carry]]
    diagnostics: Callable[[Carry], dict[str, jax.Array]]
    align_episode: Callable[..., Alignment]
    narrow: Callable[[Carry, int], Carry]
