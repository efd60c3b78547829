"""Fig. 3: density and G over the places where the agent might stand on a layout.

Every observation is the real environment's, of an agent at rest. A place has no
history, so the policy sees it as the first step of an episode, with that step's tokens,
and acts by its mean; its density is the marginal one: the transition density would ask
from where the agent came. The level E-hat is Algorithm 1's on that layout, with the
same kind of density.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.alignment import lyapunov
from sas_jax.data.episodes import Episodes
from sas_jax.envs.make import make as make_env
from sas_jax.errors import UserError
from sas_jax.gaussian import action_log_prob, split_keys
from sas_jax.progress import SILENT, Progress
from sas_jax.report import scene
from sas_jax.report.landscape_figure import Landscape
from sas_jax.report.scene import EpisodePath
from sas_jax.studies.probe import Probe
from sas_jax.studies.recording import Recording, make_recorder

VARIANTS = ("none", "sas")
DENSITY = "marginal"
PERCENTILE = 95  # of the data's energies: what lies above is the paper's invalid region
_CHUNK = 1024  # places at a time: one shape


class Places(NamedTuple):
    """log_density `[G]` log rho, log_prob `[G]` log pi of the mean action, clipped."""

    log_density: np.ndarray
    log_prob: np.ndarray


def make_places(probe: Probe) -> Callable[[np.ndarray], Places]:
    """Builds observations `[G, O]` -> `Places`, each the first step of an episode."""
    model = probe.model

    @jax.jit
    def run(variables, keys, obs):
        count = obs.shape[0]
        state = model.start(
            variables,
            keys,
            obs,
            jnp.full(count, probe.target_return),
            jnp.full(count, probe.cost_limit),
            model.context,
        )
        seen = model.observe(variables, state, None)
        action = jnp.clip(seen.mean, -1.0, 1.0)
        log_prob = action_log_prob(
            action, seen.mean, seen.log_std, is_censored=model.is_censored
        )
        return Places(state.log_density, log_prob)

    # The same draws at every place: a difference between two is not the bound's noise.
    keys = jnp.repeat(split_keys(jax.random.fold_in(probe.key, 1), 1), _CHUNK)

    def places(obs):
        obs, found = np.asarray(obs, np.float32), []
        for first in range(0, len(obs), _CHUNK):
            block = obs[first : first + _CHUNK]
            fill = np.minimum(np.arange(_CHUNK), len(block) - 1)
            found.append(jax.device_get(run(probe.variables, keys, block[fill])))
        return jax.tree.map(lambda *x: np.concatenate(x)[: len(obs)], *found)

    return places


def energy_at(log_density: np.ndarray, probe: Probe) -> np.ndarray:
    """E of places `[...]` from log rho + log pi, as if an agent stayed there.

    All steps of the energy's window then have this density.
    """
    held = jnp.zeros(probe.config.energy_window)
    alone = lyapunov.energy(
        held, discount=probe.config.discount, window=probe.config.energy_window
    )[0]
    return float(alone) - np.asarray(log_density)


def landscape(
    probe: Probe,
    episodes: Episodes,
    seed: int,
    *,
    resolution: int = 41,
    yaw: float | None = None,
    num_yaws: int = 4,
    num_states: int = 4096,
    num_workers: int | None = None,
    progress: Progress = SILENT,
) -> Landscape:
    """Runs the layout's episodes and looks at every place of a square grid.

    Args:
      probe: made with `density=DENSITY`. episodes: data whose energies give the
        percentile. seed: of the layout.
      resolution: places along each side. yaw: where the agent looks (radians); None
        averages the densities of `num_yaws` directions.
      num_states: recorded states that are looked at.
      progress: told of the episodes' steps.

    Raises:
      UserError: a probe of another density, data of other sizes, or a task without
        places.
    """
    _check_request(probe, episodes, resolution, num_yaws)
    env = make_env(probe.task.name)
    try:
        env.reset(seed)
        env.observe_at(env.pose()[None, :3])  # tasks without places say so here
        progress.expect(len(VARIANTS) * probe.loaded.spec.max_timestep)
        progress.stage("aligning and acting")
        record = make_recorder(
            probe, VARIANTS, num_workers=num_workers, on_step=progress.done
        )
        run = record(np.array([seed]))
        paths = {v: path_of(run, i) for i, v in enumerate(VARIANTS)}
        left, right, bottom, top = scene.view(run.layouts[seed], paths)
        x, y = (
            np.linspace(left, right, resolution),
            np.linspace(bottom, top, resolution),
        )
        turns = np.linspace(0, 2 * np.pi, num_yaws, endpoint=False)
        turns = turns if yaw is None else np.array([yaw])
        poses = np.stack(np.meshgrid(turns, y, x, indexing="ij")[::-1], axis=-1)
        obs = env.observe_at(poses.reshape(-1, 3))
    finally:
        env.close()
    progress.stage("places")
    places = make_places(probe)
    at = jax.tree.map(
        lambda v: v.reshape(len(turns), resolution, resolution), places(obs)
    )
    rng = np.random.default_rng(probe.seed)
    count = min(num_states, episodes.num_steps)
    chosen = np.sort(rng.choice(episodes.num_steps, count, replace=False))
    data = places(episodes.observations[chosen])
    data_energy = energy_at(data.log_density + data.log_prob, probe)
    return Landscape(
        seed=seed,
        x=x,
        y=y,
        yaws=turns,
        log_density=_log_mean(at.log_density),
        energy=energy_at(_log_mean(at.log_density + at.log_prob), probe),
        level=float(run.level[0]),
        percentile=float(np.percentile(data_energy, PERCENTILE)),
        layout=run.layouts[seed],
        paths=paths,
    )


def _check_request(
    probe: Probe, episodes: Episodes, resolution: int, num_yaws: int
) -> None:
    """UserError for what `landscape` cannot look at."""
    if probe.config.density != DENSITY:
        raise UserError(
            f"sas.density: {probe.config.density!r}; expected {DENSITY!r}, a place has "
            "no history"
        )
    if episodes.obs_dim != probe.loaded.spec.obs_dim:
        raise UserError(
            f"data of {episodes.task}: observations of size {episodes.obs_dim}; "
            f"expected {probe.loaded.spec.obs_dim} as in the checkpoint"
        )
    if resolution < 2 or num_yaws < 1:
        raise UserError(
            f"resolution {resolution}, {num_yaws} directions: expected >= 2 and >= 1"
        )


def path_of(run: Recording, variant: int) -> EpisodePath:
    """The first episode of a variant as a picture wants it."""
    length = int(run.length[variant, 0])
    return EpisodePath(
        pose=run.pose[variant, 0, :length],
        costs=run.cost[variant, 0, :length],
        rewards=run.reward[variant, 0, :length],
    )


def _log_mean(values: np.ndarray) -> np.ndarray:
    """log of the mean of exp over the first axis."""
    top = values.max(axis=0)
    return top + np.log(np.exp(values - top).mean(axis=0))
