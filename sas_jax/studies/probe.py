"""A checkpoint's model with the settings under which it is looked at.

What the three pictures of `experiments.reproduce` share: parameters, the first state of
an episode with the very draws that acting uses, first observations, energies of data.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax import config as config_lib
from sas_jax.alignment import beginning
from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.loops import compared, counted
from sas_jax.alignment.sequence_model import SequenceModel
from sas_jax.checkpoint import Checkpoint
from sas_jax.data.episodes import Episodes
from sas_jax.envs.tasks import Task
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.errors import UserError
from sas_jax.evaluation.evaluate import task_of
from sas_jax.gaussian import split_keys
from sas_jax.learners import sequence
from sas_jax.policies.teacher_forcing import Steps, energies_of, replay
from sas_jax.types import Key, Params

_ROWS = 32  # episodes replayed or reset at a time: one shape, one program


class Probe(NamedTuple):
    """See the module. horizon: T of imagination, 0 resolved. key: base of all draws.

    cost_limit: threshold that the policy acts under. loaded: the checkpoint as given.
    """

    model: SequenceModel
    variables: Params
    config: SASConfig
    horizon: int
    target_return: float
    cost_limit: float
    key: Key
    task: Task
    loaded: Checkpoint
    seed: int
    train_seed: int

    def settings(self) -> dict[str, Any]:
        """What decides the numbers, as plain values."""
        return {
            "experiment": config_lib.to_dict(self.loaded.config),
            "data": self.loaded.spec.fingerprint,
            "step": self.loaded.step,
            "cost_limit": self.cost_limit,
            "seed": self.seed,
            "train_seed": self.train_seed,
        }

    @property
    def compared(self) -> slice:
        """Imagined steps whose energies are compared (`loops.compared`)."""
        return compared(self.model, self.config, self.horizon)

    def start(self, variables: Params, seed: jax.Array, obs: jax.Array):
        """An episode's alignment key and first state, leading axis 1; under jit.

        The draws are those of acting: see `carry.Policy.align_episode`.
        """
        stream = beginning.episode_key(self.key, seed, is_null=jnp.asarray(False))
        start_key, align_key = jax.random.split(jax.random.fold_in(stream, 1))
        state = self.model.start(
            variables,
            start_key[None],
            obs[None],
            jnp.full(1, self.target_return),
            jnp.full(1, self.cost_limit),
            self.model.context,
        )
        return align_key, state


def make_probe(
    loaded: Checkpoint,
    *,
    cost_limit: float | None = None,
    seed: int = 0,
    train_seed: int = 0,
    density: str | None = None,
    target_return: float | None = None,
) -> Probe:
    """A probe of a checkpoint.

    Args:
      cost_limit: threshold for policies with cost tokens; None means the task's first.
      seed: of the agents' draws, as in `evaluate`. train_seed: index.
      density: replaces the configuration's kind.
      target_return: return token at the start; None means the checkpoint's.

    Raises:
      UserError: settings that do not fit the checkpoint.
    """
    task = task_of(loaded, train_seed)
    if density is not None:
        changed = dataclasses.replace(loaded.config.sas, density=density)
        loaded = loaded._replace(config=dataclasses.replace(loaded.config, sas=changed))
    config, spec = loaded.config, loaded.spec
    if config.sas.fragments > 1:
        raise UserError(
            f"sas.fragments: {config.sas.fragments}; expected 1, one run of Algorithm 1"
        )
    state = jax.tree.map(lambda x: x[train_seed], loaded.state)
    return Probe(
        model=sequence.make_sequence_model(config, spec),
        variables=sequence.variables_of(state),
        config=config.sas,
        horizon=sequence.horizon_of(config, spec),
        target_return=float(
            spec.target_return if target_return is None else target_return
        ),
        cost_limit=float(task.cost_limits[0] if cost_limit is None else cost_limit),
        key=jax.random.key(seed),
        task=task,
        loaded=loaded,
        seed=seed,
        train_seed=train_seed,
    )


def first_observations(
    task: Task, seeds: np.ndarray, *, num_workers: int | None = None
) -> np.ndarray:
    """First observations `[E, O]` float32 of the layouts `seeds` `[E]`."""
    count = len(seeds)
    slots = min(_ROWS, count)
    observations = []
    with VectorEnv(task.name, slots, num_workers=num_workers) as envs:
        for first in range(0, count, slots):
            block = seeds[first : first + slots]
            filled = np.concatenate([block, np.repeat(block[-1:], slots - len(block))])
            observations.append(envs.reset(filled).obs[: len(block)].copy())
    return np.concatenate(observations)


def data_steps(episodes: Episodes, chosen: np.ndarray) -> Steps:
    """Steps of the episodes `chosen` `[B]` with the tokens they were trained on."""
    lengths = episodes.lengths[chosen]
    longest = int(episodes.lengths.max())

    def rows(values):
        out = np.zeros((len(chosen), longest, *values.shape[1:]), np.float32)
        for row, episode in enumerate(chosen):
            start = episodes.offsets[episode]
            out[row, : lengths[row]] = values[start : start + lengths[row]]
        return out

    def to_go(values):
        padded = rows(values).astype(np.float64)
        return np.cumsum(padded[:, ::-1], axis=1)[:, ::-1].astype(np.float32)

    return Steps(
        obs=rows(episodes.observations),
        action=rows(episodes.actions),
        return_to_go=to_go(episodes.rewards),
        cost_to_go=to_go(episodes.costs),
        length=lengths.astype(np.int32),
    )


def data_energies(
    probe: Probe,
    episodes: Episodes,
    *,
    num_episodes: int = 64,
    on_done: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Energies `[E, T]` of recorded episodes under the model.

    NaN where they are not compared: after an episode's end, where its end cuts the
    window, and at a first step whose density is of another kind (`loops.counted`).

    The history is the data's own, actions count as executed. With fewer than
    `num_episodes` in the data all are taken, else a sample without replacement.
    on_done: called with the number of episodes just done.

    Raises:
      UserError: data of other sizes, or a model that cannot score observations.
    """
    spec = probe.loaded.spec
    if (episodes.obs_dim, episodes.action_dim) != (spec.obs_dim, spec.action_dim):
        raise UserError(
            f"data of {episodes.task}: observations of size {episodes.obs_dim} and "
            f"actions of size {episodes.action_dim}; expected {spec.obs_dim} and "
            f"{spec.action_dim} as in the checkpoint"
        )
    if int(episodes.lengths.max()) > probe.loaded.config.model.max_timestep:
        raise UserError(
            f"data of {episodes.task}: an episode of {int(episodes.lengths.max())} "
            f"steps; the checkpoint knows "
            f"{probe.loaded.config.model.max_timestep} time steps"
        )
    count = min(num_episodes, episodes.num_episodes)
    rng = np.random.default_rng(probe.seed)
    chosen = np.sort(rng.choice(episodes.num_episodes, count, replace=False))

    @jax.jit
    def run(variables, keys, steps):
        told = replay(probe.model, variables, keys, steps)
        energies = energies_of(told, steps.length, probe.config)
        horizon = energies.shape[1]
        counts = jax.vmap(
            lambda length: counted(probe.model, probe.config, horizon, length)
        )(steps.length)
        return jnp.where(counts, energies, jnp.nan)

    keys = split_keys(jax.random.fold_in(probe.key, 0), _ROWS)
    found = []
    for first in range(0, count, _ROWS):
        block = chosen[first : first + _ROWS]
        fill = np.minimum(np.arange(_ROWS), len(block) - 1)
        energies = run(probe.variables, keys, data_steps(episodes, block[fill]))
        found.append(np.asarray(energies)[: len(block)])
        if on_done:
            on_done(len(block))
    return np.concatenate(found)
