"""What the loops of Algorithm 1 show, episode by episode.

`make_keep` reads it off the alignment that an episode acts with, so that nothing is
imagined twice; `make_scores` asks what line 14's score would be with other draws.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from sas_jax.alignment import lyapunov
from sas_jax.alignment.algorithm1 import Alignment
from sas_jax.alignment.loops import bounded, cut, run_loop
from sas_jax.alignment.sequence_model import make_room
from sas_jax.gaussian import split_keys
from sas_jax.studies.probe import Probe
from sas_jax.types import Trajectory

_FIELDS = tuple(field.name for field in dataclasses.fields(Trajectory))


def _known(probe, loop):
    """`[N]` each: whether a trajectory is valid, its largest energy, the step of it."""
    counts = jnp.zeros(probe.horizon, bool).at[probe.compared].set(True)
    peak, step = lyapunov.peaks(loop.energies, counts, loop.is_valid)
    return loop.is_valid, jnp.where(loop.is_valid, peak, jnp.nan), step


def _conditions(probe, loop, level):
    """Condition V of a loop's M trajectories, at the steps that are compared."""
    energies = loop.energies[:, probe.compared]
    g = jax.vmap(lyapunov.lyapunov_value, in_axes=(0, None))(energies, level)
    return jax.vmap(lyapunov.condition_v)(g)


def make_keep(probe: Probe) -> Callable[[Alignment], dict[str, jax.Array]]:
    """Builds alignment of one episode, variant `sas` among its own -> arrays.

    N or M imaginations of a loop; NaN where an imagination has an energy that is not
    finite:
      level: E-hat. peak_first `[N]`, peak_second `[M]`: largest energy.
      time_first, time_second: its step as a share of the horizon, in [0, 1).
      cost_first `[N]`: predicted cost of the imagination.
      score `[M]`: sum of V over the steps that have one; halves `[M, 2]`: of the
        first and the last half of these steps.
      candidate_...: `[M, L, ...]` the segment of each second imagination that ends at
        its largest energy; candidate_ok `[M]` whether there is one.
      prompt_...: `[V, L, ...]` the variants' segments; prompt_ok `[V]`.
    """
    horizon, length = probe.horizon, probe.config.prompt_length

    def keep(found: Alignment) -> dict[str, jax.Array]:
        first, second = found.first, found.second["min"]
        valid_first, peak_first, step_first = _known(probe, first)
        valid, peak_second, step_second = _known(probe, second)
        level = jnp.where(
            valid_first.any(), found.first_choices["sas"].selection.level, jnp.nan
        )
        usable = valid & valid_first.any()
        holds = _conditions(probe, second, level)
        half = holds.shape[1] // 2
        parts = jnp.stack([holds[:, :half].sum(1), holds[:, -half:].sum(1)], axis=1)

        def candidate(index):
            alone = lyapunov.Selection(
                index, step_second[index], level, level, valid[index]
            )
            return cut(second, bounded(alone, length, horizon), valid[index], length)

        def where(known, values):
            return jnp.where(known, values, jnp.nan)

        candidates = jax.vmap(candidate)(jnp.arange(valid.shape[0]))
        return {
            "level": level,
            "peak_first": peak_first,
            "time_first": where(valid_first, step_first / horizon),
            "cost_first": where(valid_first, first.outputs.cost.sum(axis=1)),
            "peak_second": where(usable, peak_second),
            "time_second": where(usable, step_second / horizon),
            "score": where(usable, holds.sum(axis=1)),
            "halves": where(usable[:, None], parts),
            "candidate_ok": usable,
            "prompt_ok": found.prompts.is_present,
            **pack("candidate", candidates),
            **pack("prompt", found.prompts.segment),
        }

    return keep


def pack(name: str, segment: Trajectory) -> dict[str, jax.Array]:
    """A segment's fields by the names `NAME_...`."""
    return {f"{name}_{k}": getattr(segment, k) for k in _FIELDS}


def unpack(name: str, arrays) -> Trajectory:
    """Inverse of `pack`, out of more arrays."""
    return Trajectory(**{k: arrays[f"{name}_{k}"] for k in _FIELDS})


def make_scores(probe: Probe, repeats: int) -> Callable[..., jax.Array]:
    """Builds what scores line 14's candidates with other draws; to be jitted.

    (variables, seeds `[E]`, obs `[E, O]`, level `[E]`, candidates `[E, M, L, ...]`,
    candidate_ok `[E, M]`) -> `[E, M, repeats]` sums of V of imaginations under each
    candidate's own segment as prompt, with the same `repeats` draws for each of a
    layout's; NaN where there is no candidate or an energy is not finite. All
    imaginations run side by side.
    """
    model, config, horizon = probe.model, probe.config, probe.horizon

    def one(variables, seed, obs, level, candidates, is_ok):
        key, state = probe.start(variables, seed, obs)
        keys = split_keys(jax.random.fold_in(key, 3), repeats)
        room = make_room(model, state, config.prompt_length)

        def again(segment, found):
            prompt = model.encode_prompt(variables, segment, found)
            loop = run_loop(model, variables, config, horizon, keys, room, prompt)
            score = _conditions(probe, loop, level).sum(axis=1)
            return jnp.where(loop.is_valid & found, score, jnp.nan)

        return jax.vmap(again)(candidates, is_ok)

    return jax.vmap(one, in_axes=(None, 0, 0, 0, 0, 0))
