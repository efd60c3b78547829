"""The card's part about whole episodes: does imagination hold for a thousand steps?

From the first states of held-out episodes, with those episodes' own return and cost
tokens, to the episode's end, without clipping. No real step is fed after the first.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.alignment.imagination import imagine
from sas_jax.alignment.sequence_model import SequenceModel
from sas_jax.data.episodes import Episodes
from sas_jax.data.spec import DataSpec
from sas_jax.envs.tasks import TASKS
from sas_jax.gaussian import split_keys

# Trajectories imagined at once, and the stride at which their states are kept.
_CHUNK, _STRIDE = 64, 10
# A state this many times further out than any state of the data has left the world.
_BLOW_UP = 2.0
# Standard deviations of blur under which distributions are compared: a lidar bin that
# sees nothing is exactly 0 in the data, and a hair beside it in imagination.
_BLUR = 0.1


def _imagine(model, spec, variables, obs, tokens, key, horizon):
    """States `[P, T / stride, O]` (standardised), cost and reward sums `[P]`."""
    count = obs.shape[0]
    keys = split_keys(key, count)
    state = model.start(variables, keys, obs, *tokens, model.context)
    outputs, _ = imagine(model.step, variables, keys, state, None, horizon=horizon)
    states = model.standardise(outputs.obs.reshape(-1, spec.obs_dim))
    states = states.reshape(outputs.obs.shape)
    farthest = jnp.abs(jnp.where(jnp.asarray(spec.obs_active), states, 0.0))
    return {
        "states": states[:, ::_STRIDE],
        "farthest": farthest.max(axis=(1, 2)),
        "cost": outputs.cost.sum(1),
        "return": outputs.reward.sum(1),
    }


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Kolmogorov-Smirnov distance of samples `[n, O]`, `[m, O]` -> `[O]`."""
    out = []
    for x, y in zip(a.T, b.T, strict=True):
        both = np.concatenate([x, y])
        ranks = [np.searchsorted(np.sort(z), both, "right") / z.size for z in (x, y)]
        out.append(np.abs(ranks[0] - ranks[1]).max())
    return np.array(out)


def _speed(states: np.ndarray, task: str, spec: DataSpec) -> np.ndarray | None:
    """Speed over ground in the environment's units, where the task measures it."""
    groups = TASKS[task].obs_groups if task in TASKS else {}
    if "velocimeter" not in groups or TASKS[task].obs_dim != spec.obs_dim:
        return None
    part = slice(groups["velocimeter"].start, groups["velocimeter"].start + 2)
    velocity = states[:, part] * spec.obs_std[part] + spec.obs_mean[part]
    return np.linalg.norm(velocity, axis=1)


def whole_episodes(
    model: SequenceModel,
    spec: DataSpec,
    variables: Any,
    held_out: Episodes,
    *,
    num_trajectories: int = 256,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures imagination from first states to the end of the episode.

    Returns:
      trajectories, horizon; blown_up: share with a state that is not finite or twice as
      far out as any state of the data; cost and return of an episode, imagined and
      real; distance_mean, distance_max: Kolmogorov-Smirnov distance over the active
      dimensions of the states, at a resolution of 0.1 standard deviations; speed: that
      of the speed over ground, and both means.
    """
    horizon = int(min(held_out.lengths.max(), spec.max_timestep))
    chunks = -(-num_trajectories // _CHUNK)
    episode = np.arange(chunks * _CHUNK) % held_out.num_episodes
    first = held_out.observations[held_out.offsets[episode]]
    tokens = held_out.returns()[episode], held_out.cost_returns()[episode]

    @jax.jit
    def run(variables, first, tokens, keys):
        def chunk(inputs):
            obs, tokens, key = inputs
            return _imagine(model, spec, variables, obs, tokens, key, horizon)

        def split(x):
            return x.reshape(chunks, _CHUNK, *x.shape[1:])

        out = jax.lax.map(chunk, (split(first), jax.tree.map(split, tokens), keys))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out)

    keys = split_keys(jax.random.key(seed), chunks)
    tokens = tuple(jnp.asarray(x, jnp.float32) for x in tokens)
    out = run(variables, jnp.asarray(first), tokens, keys)
    out = {k: v[:num_trajectories] for k, v in jax.device_get(out).items()}
    active = np.asarray(spec.obs_active)
    real = (held_out.observations[::_STRIDE] - spec.obs_mean) / spec.obs_std
    bound = _BLOW_UP * np.abs(real[:, active]).max()
    sane = np.isfinite(out["farthest"]) & (out["farthest"] <= bound)
    states = np.nan_to_num(out["states"].reshape(-1, spec.obs_dim))
    rng = np.random.default_rng(seed)
    blurred = [x + _BLUR * rng.normal(size=x.shape) for x in (states, real)]
    distance = _distance(*(x[:, active] for x in blurred))
    part = {
        "trajectories": num_trajectories,
        "horizon": horizon,
        "blown_up": float(1.0 - sane.mean()),
        "cost_imagined": float(np.mean(out["cost"])),
        "cost_real": float(held_out.cost_returns().mean()),
        "return_imagined": float(np.mean(out["return"])),
        "return_real": float(held_out.returns().mean()),
        "distance_mean": float(distance.mean()),
        "distance_max": float(distance.max()),
    }
    speeds = [_speed(x, held_out.task, spec) for x in (states, real)]
    if speeds[0] is not None:
        part["speed"] = {
            "imagined": float(speeds[0].mean()),
            "real": float(speeds[1].mean()),
            "distance": float(_distance(speeds[0][:, None], speeds[1][:, None])[0]),
        }
    return part
