"""A trained policy as one that records data: `collect --policy=WORKDIR`.

It acts as it does under the variant "none" in evaluation, with the seed that the
episode draws. Recording workers load it by themselves, so a name says which it is.
"""

import functools
from pathlib import Path

import numpy as np

from sas_jax import checkpoint
from sas_jax.api import AlignedPolicy
from sas_jax.envs.tasks import Task
from sas_jax.errors import UserError


def name_of(workdir: str | Path, task: str) -> str:
    """What `data.collect.Plan.policy` calls the policy of a checkpoint.

    workdir: folder of experiments.train, or a file of experiments.pack.

    Raises:
      UserError: see `checkpoint.load`; a checkpoint of another task.
    """
    loaded = checkpoint.load(workdir)
    if loaded.config.task != task:
        raise UserError(
            f"policy {str(workdir)!r}: trained on {loaded.config.task}; expected {task}"
        )
    digest = checkpoint.digest_of(loaded)
    return f"sas_jax.trained:policy:{digest}@{Path(workdir).absolute()}"


class _Acting:
    """One episode of a policy."""

    def __init__(self, policy: AlignedPolicy, seed: int):
        self._policy, self._seed = policy, seed
        self._brought: tuple[float, float] | None = None

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """The action `[A]` at the observation `[O]`."""
        if self._brought is None:
            self._policy.reset(obs, seed=self._seed)
            return self._policy.act(obs)
        return self._policy.act(obs, *self._brought)

    def told(self, reward: float, cost: float) -> None:
        """What the step just made brought."""
        self._brought = reward, cost


def policy(task: Task, rng: np.random.Generator, text: str) -> _Acting:
    """What acts in an episode; see `data.behaviours.given`.

    Raises:
      UserError: the checkpoint is not the one that was named.
    """
    del task  # looked at when it was named
    return _Acting(_loaded(*_parts(text)), int(rng.integers(2**32)))


def _prepare(text: str) -> None:
    """Loads and compiles, before any episode waits for it."""
    _loaded(*_parts(text))


policy.prepare = _prepare  # type: ignore[attr-defined]


def _parts(text: str) -> tuple[str, str]:
    """Digest and workdir."""
    digest, _, workdir = text.partition("@")
    return digest, workdir


@functools.cache
def _loaded(digest: str, workdir: str) -> AlignedPolicy:
    """The policy, loaded and compiled once in a process."""
    loaded = checkpoint.load(workdir)
    if (found := checkpoint.digest_of(loaded)) != digest:
        raise UserError(
            f"policy {workdir!r}: has changed since the recording began ({found}); "
            f"expected the checkpoint {digest}"
        )
    made = AlignedPolicy.from_checkpoint(workdir, variant="none")
    nothing = np.zeros(loaded.spec.obs_dim, np.float32)
    made.reset(nothing)
    made.act(nothing)
    return made
