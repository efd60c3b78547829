"""Workers of a `VectorEnv` as actors of a Ray cluster, on whatever hosts it has.

The same requests, the same answers to the bit: a worker runs the same code on slots in
its own memory, and what it wrote travels back. A request costs a message there and back
for each worker, about a millisecond; it pays where a step of a worker's slots is long
beside that, and where one machine's cores are not enough. An actor that is lost, its
node with it, is begun anew elsewhere and runs the episodes at hand again.
"""

import contextlib
import os
from typing import Any

import numpy as np

from sas_jax.envs.vector import cluster, shared
from sas_jax.envs.vector.pool import WorkerError, WorkerPool
from sas_jax.envs.vector.process import NO_ACCELERATOR, ONE_THREAD

_START_SECONDS = 300.0
# Tries to begin an actor: Ray takes some seconds to notice that a node is gone.
_STARTS = 5
# A request without a sign of life: the same as in `pool`, but a replay has no beats.
_HANG_SECONDS = 120.0
_REPLAY_SECONDS_A_STEP = 0.1
_GIVEN = ("seeds", "mask", "actions")
_FOUND = ("observations", "rewards", "costs", "terminated", "ended", "poses")


class Host:
    """What an actor is: a `Worker` and its slots."""

    def __init__(self, config: dict):
        """config: as the worker process has it (`worker.serve`), but for descriptors.

        It is `start` that makes the environments, so that their errors are answers.
        """
        self._config = config
        self._worker: Any = None

    def start(self) -> tuple[bool, str]:
        """Makes the environments; whether that went well, and what went wrong."""
        from sas_jax.envs.vector import worker

        config = self._config
        sizes = ("num_envs", "num_workers", "obs_dim", "action_dim")
        self._slots = shared.SharedSlots(*(config[name] for name in sizes))
        try:
            self._worker = worker.started(config, self._slots)
        except Exception as error:  # reported to the parent, whose user it concerns
            return False, worker.told(error)
        return True, ""

    def ask(self, kind: bytes, payload: bytes, given: dict[str, np.ndarray]):
        """Does a request.

        given: rows of `seeds`, `mask` and `actions` of the slots that it serves.

        Returns:
          Whether that went well; the answer, or what went wrong; the rows that the
          worker writes; and the slot that it was at.
        """
        from sas_jax.envs.vector import worker

        served = self._config["slots"]
        for name, rows in given.items():
            getattr(self._slots, name)[served] = rows
        try:
            answer, is_fine = worker.done(self._worker, kind, payload), True
        except Exception as error:  # reported to the parent, whose user it concerns
            answer, is_fine = worker.told(error), False
        rows = {name: getattr(self._slots, name)[served].copy() for name in _FOUND}
        return is_fine, answer, rows, int(self._slots.busy[self._config["index"]])


class RayPool(WorkerPool):
    """W actors and the slots each of them serves; see `WorkerPool`."""

    def __init__(self, *args: Any, address: str, **kwargs: Any):
        """address: of the cluster, see `cluster.join`. The others: `WorkerPool`'s."""
        super().__init__(*args, **kwargs)
        self._address = address
        self._actors: list[Any] = []
        self._ray: Any = None
        self._is_ours = False

    def start(self) -> None:
        """Starts all actors, side by side. Raises as `WorkerPool.start`."""
        self._ray = cluster.imported()
        self._is_ours = cluster.join(self._ray, self._address)
        try:
            self._actors = [self._actor(i) for i in range(len(self._served))]
            starts = [actor.start.remote() for actor in self._actors]
            for index, start in enumerate(starts):
                self._await(index, start)
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """None of this machine's."""
        return []

    def close(self) -> None:
        """Ends all actors, and Ray where it was started here."""
        if self._closed:
            return
        self._closed = True
        if self._ray is not None and self._ray.is_initialized():
            for actor in self._actors:
                self._ray.kill(actor)
            if self._is_ours:
                self._ray.shutdown()
        os.close(self._slots.fd)

    def _actor(self, index: int) -> Any:
        """One actor, whose environments are not made yet."""
        config = self._config | {"slots": self._served[index], "index": index}
        self._slots.busy[index] = self._served[index][0]
        declare = self._ray.remote(
            num_cpus=1,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": dict.fromkeys(ONE_THREAD, "1") | NO_ACCELERATOR},
        )
        return declare(Host).remote(config)

    def _await(self, index: int, start: Any = None) -> None:
        """Waits until an actor has made its environments.

        start: its `start` on its way; None begins a fresh actor in its place. It may be
        put on a node that is gone, which Ray notices late: it is begun again.
        """
        for left in reversed(range(_STARTS)):
            if start is None:
                self._ray.kill(self._actors[index])
                self._actors[index] = self._actor(index)
                start = self._actors[index].start.remote()
            try:
                is_fine, text = self._ray.get(start, timeout=_START_SECONDS)
            except self._ray.exceptions.RayError as error:
                start, reason = None, " ".join(str(error).split())[:200]
                if not left:
                    raise WorkerError(
                        f"a worker of {self._task} was lost while starting ({reason}); "
                        "expected a node with a free core, and this package there"
                    ) from None
                continue
            if not is_fine:
                raise WorkerError(text.removeprefix("UserError: "))
            return

    def _ask(self, index: int, kind: bytes, payload: bytes) -> Any:
        """A request on its way."""
        served = self._served[index]
        given = {name: getattr(self._slots, name)[served] for name in _GIVEN}
        return self._actors[index].ask.remote(kind, payload, given)

    def _exchange(self, kind, indices, payload, history) -> list[bytes]:
        """See `WorkerPool._exchange`."""
        if self._closed:
            raise RuntimeError("the vector environment is closed")
        asked = {index: self._ask(index, kind, payload) for index in indices}
        answers, errors = [], []
        for index, request in asked.items():
            try:
                answers.append(self._read(index, request, kind, payload, history))
            except WorkerError as error:
                errors.append(error)
                if self._closed:
                    break
        if errors:
            raise errors[0]
        return answers

    def _read(self, index, request, kind, payload, history) -> bytes:
        """An actor's answer, over a fresh actor if it is lost."""
        lost = self._ray.exceptions.RayError
        with contextlib.suppress(lost):
            return self._taken(index, request, _HANG_SECONDS)
        self._await(index)
        try:
            past = history(self._served[index])
            again = self._ask(index, shared.REPLAY, past)
            steps = len(past) / max(8 * self._slots.actions.shape[1], 1)
            self._taken(index, again, _HANG_SECONDS + _REPLAY_SECONDS_A_STEP * steps)
            request = self._ask(index, kind, payload)
            return self._taken(index, request, _HANG_SECONDS)
        except lost:
            self.close()
            raise WorkerError(
                f"{self._culprit(index)}: its environment worker was lost twice in the "
                "same request; expected it to live"
            ) from None

    def _taken(self, index: int, request: Any, patience: float) -> bytes:
        """An answer, its rows in the slots; Ray's error where there is none."""
        found = self._ray.get(request, timeout=patience)
        is_fine, answer, rows, self._slots.busy[index] = found
        for name, values in rows.items():
            getattr(self._slots, name)[self._served[index]] = values
        if not is_fine:
            raise WorkerError(f"{self._culprit(index)}: {answer}")
        return answer
