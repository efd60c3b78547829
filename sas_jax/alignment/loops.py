"""One loop of Algorithm 1: imagine some trajectories, score them, cut a segment out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sas_jax.alignment import lyapunov
from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.imagination import imagine, segment
from sas_jax.alignment.sequence_model import SequenceModel
from sas_jax.gaussian import split_keys
from sas_jax.types import Key, StepOutput, Trajectory


class Loop(NamedTuple):
    """One loop of Algorithm 1: imaginations `[P, T]` and their energies `[P, T]`.

    is_valid: `[P]` bool, False where some density or energy is not finite: an energy
    averages over its window, which would hide a single density of zero.
    """

    outputs: StepOutput
    energies: jax.Array
    is_valid: jax.Array


class Choice(NamedTuple):
    """A rule's selection in a loop, and the half-open bounds of its segment."""

    selection: lyapunov.Selection
    start: jax.Array
    end: jax.Array


def run_loop(
    model, variables, config, horizon, keys, state, prompt, num_steps=None
) -> Loop:
    """Imagines from `state` (one trajectory) once per key and scores every step.

    num_steps: `[]` steps until the episode ends, at least 1; None means no fewer than
    the horizon. Later steps are in no energy, and hold the energy of the last one.
    """
    count = keys.shape[0]
    state = _copies(state, count)
    outputs, _ = imagine(model.step, variables, keys, state, prompt, horizon=horizon)
    log_density = outputs.log_density + outputs.log_prob
    is_inside = jnp.ones(horizon, bool)
    if num_steps is not None:
        is_inside = jnp.arange(horizon) < num_steps
    is_fine = jnp.isfinite(log_density) | ~is_inside[None, :]
    log_density = jnp.where(is_inside[None, :], log_density, -jnp.inf)
    energies = jax.vmap(
        lambda row: lyapunov.energy(
            row, discount=config.discount, window=config.energy_window
        )
    )(log_density)
    if num_steps is not None:
        energies = energies[:, jnp.minimum(jnp.arange(horizon), num_steps - 1)]
    return Loop(outputs, energies, jnp.all(is_fine & jnp.isfinite(energies), axis=1))


def _copies(state, count):
    """One trajectory's state -> `count` copies; what is common to all stays as is."""
    return jax.tree.map(
        lambda x: x if x.ndim == 0 else jnp.broadcast_to(x, (count, *x.shape[1:])),
        state,
    )


def counted(
    model: SequenceModel, config: SASConfig, horizon: int, num_steps: jax.Array
) -> jax.Array:
    """`[T]` bool: the steps whose energies are compared (algorithm, section 5).

    Those of whole windows: a window that the episode's end cuts off holds fewer terms
    and so a higher energy, wherever the trajectory went. And not the first step of a
    model whose first density is of another kind than the later ones.

    num_steps: `[]` steps until the episode ends. One step always counts.
    """
    first = jnp.minimum(int(model.first_density_differs), num_steps - 1)
    last = jnp.maximum(num_steps - config.energy_window, first)
    t = jnp.arange(horizon)
    return (t >= first) & (t <= last)


def compared(model: SequenceModel, config: SASConfig, horizon: int) -> slice:
    """`counted` of an episode that outlasts the horizon: a run of steps, static."""
    first = min(int(model.first_density_differs), horizon - 1)
    return slice(first, max(horizon - config.energy_window, first) + 1)


def bounded(selection: lyapunov.Selection, length: int, horizon: int) -> Choice:
    """A selection with the segment that ends at its peak."""
    bounds = lyapunov.segment_bounds(selection.peak, length=length, horizon=horizon)
    return Choice(selection, *bounds)


def cut(loop: Loop, choice: Choice, found: jax.Array, length: int) -> Trajectory:
    """The chosen segment `[L]`, zeros where nothing was found.

    A disqualified trajectory may hold NaN, which a weight of zero does not hide.
    """
    steps = segment(loop.outputs, choice.selection.index, choice.start, length)
    return jax.tree.map(lambda x: jnp.where(found, x, jnp.zeros_like(x)), steps)


def loop_keys(key: Key, config: SASConfig) -> tuple[Key, Key, Key]:
    """Keys of the first loop `[N]`, of the second `[M]`, and of the rules' draws."""
    return (
        split_keys(jax.random.fold_in(key, 0), config.num_first),
        split_keys(jax.random.fold_in(key, 1), config.num_second),
        jax.random.fold_in(key, 2),
    )
