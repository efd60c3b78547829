"""What the aligned policy carries from step to step, and what it offers (`sas`)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import struct

from sas_jax.alignment import Alignment
from sas_jax.diagnostics import Diagnostics
from sas_jax.drift import Drift
from sas_jax.seam import ModelState
from sas_jax.types import Key


@struct.dataclass
class Carry:
    """What the aligned policy remembers, one row per episode x variant.

    state, prompt, diagnostics: see their types; prompt is None without variants that
    have one. keys: `[B]` each row's stream. cost_limit, target_return: `[B]`.
    variant: `[B]` index, num_realigned: `[B]` new prompts since the episode began;
    None unless the policy re-aligns. drift: None unless it is tracked.
    is_gated: `[B]` whether actions pass a gate, num_gated: `[B]` how often it chose
    another one; None unless some variant has a gate.
    kept: name -> `[B, ...]`, what is kept of the alignment at the start; or None.
    """

    state: ModelState
    prompt: Any
    diagnostics: Diagnostics
    keys: Key
    target_return: jax.Array
    cost_limit: jax.Array
    variant: jax.Array | None = None
    num_realigned: jax.Array | None = None
    drift: Drift | None = None
    is_gated: jax.Array | None = None
    num_gated: jax.Array | None = None
    kept: dict[str, jax.Array] | None = None


class Policy(NamedTuple):
    """The acting half of a `Learner`, and Algorithm 1 as it runs it.

    align_episode(variables, row key, obs `[O]`, cost_limits `[C]`, target_return=None)
    -> Alignment: what `begin` does for one episode, with the same draws; for pictures
    and diagnostics.
    """

    initial_carry: Callable[..., Carry]
    begin: Callable[..., Carry]
    act: Callable[..., tuple[jax.Array, Carry]]
    diagnostics: Callable[[Carry], dict[str, jax.Array]]
    align_episode: Callable[..., Alignment]
