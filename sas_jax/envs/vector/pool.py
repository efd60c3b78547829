"""Worker processes: starting them, talking to them, replacing those that die.

A worker that dies is replaced by a fresh one, which runs the episodes at hand again
from their seeds and logged actions and then does what the dead one was asked. Results
are the same, since an episode depends on its seed and actions only. A second death in
the same request is taken for the episode's fault and reported. A worker that neither
answers nor begins another reset or step for two minutes is taken for dead.
"""

import contextlib
import json
import os
import sys

from sas_jax.envs import imports
from sas_jax.envs.vector import shared, worker
from sas_jax.envs.vector.process import Process
from sas_jax.errors import UserError

_PATIENCE_SECONDS = 2.0
# A single reset or step takes milliseconds, the slowest reset a second or two; imports
# from a slow disk may take long.
_HANG_SECONDS = 120.0
_START_SECONDS = 300.0


class WorkerError(UserError):
    """An environment worker failed for good. One line: task, seed, what happened."""


@contextlib.contextmanager
def closing_unless_finished(close):
    """Calls `close` when the block is left by anything but a plain error report.

    After a `UserError` all answers have been read and the workers can go on; after
    anything else, Ctrl-C for one, they cannot.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException:
        close()
        raise


class WorkerPool:
    """W workers and the slots each of them serves."""

    def __init__(
        self, task, slots, *, num_envs, num_workers, python, making, registered
    ):
        """Starts nothing yet.

        slots: the `SharedSlots`. making: arguments of `make.make`. registered:
        `make.registration` of the task. The other arguments are those of `VectorEnv`.
        """
        self._task = task
        self._slots = slots
        self._python = python or sys.executable
        self._served = [
            list(range(index, num_envs, num_workers)) for index in range(num_workers)
        ]
        self._config = {
            "task": task,
            "making": making,
            "registered": registered,
            # What this process can import, its workers can; others have their own path.
            "path": [os.getcwd()] if python else sys.path,
            "imports": imports.MODULES,
            "num_envs": num_envs,
            "num_workers": num_workers,
            "obs_dim": slots.observations.shape[1],
            "action_dim": slots.actions.shape[1],
            "parent": os.getpid(),
        }
        self._processes: list[Process] = []
        self._closed = False

    def start(self) -> None:
        """Starts all workers, side by side.

        Raises:
          UserError: a worker reports why it cannot start, or dies while starting.
        """
        try:
            for index in range(len(self._served)):
                self._processes.append(self._spawn(index))
            for index in range(len(self._served)):
                self._await_start(index)
        except UserError:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """Process ids, by worker."""
        return [process.popen.pid for process in self._processes]

    def run(self, kind: bytes, mask, history) -> None:
        """Sends a request to every worker with a slot in the mask; waits for all.

        mask: `[B]` bool. history: slots -> payload of a replay, asked for when a worker
        has to be replaced.

        Raises:
          WorkerError: an environment raised, or a worker died twice.
        """
        busy = [i for i, slots in enumerate(self._served) if mask[slots].any()]
        self._exchange(kind, busy, b"", history)

    def ask_layout(self, slot: int, history) -> dict:
        """The layout of one slot; see `run` for `history`."""
        index = slot % len(self._served)
        (answer,) = self._exchange(shared.LAYOUT, [index], b"%d" % slot, history)
        return json.loads(answer)

    def close(self) -> None:
        """Ends all workers and waits for them."""
        if self._closed:
            return
        self._closed = True
        for process in self._processes:
            process.close_pipes()
        for process in self._processes:
            process.wait(_PATIENCE_SECONDS)
        os.close(self._slots.fd)

    def _exchange(self, kind, indices, payload, history) -> list[bytes]:
        """One request to some workers. All answers are read before any error is raised.

        Returns the answers' payloads.
        """
        if self._closed:
            raise RuntimeError("the vector environment is closed")
        for index in indices:
            with contextlib.suppress(BrokenPipeError):  # noticed when reading
                shared.send(self._processes[index].commands, kind, payload)
        answers, errors = [], []
        for index in indices:
            try:
                answers.append(self._answer(index, kind, payload, history))
            except WorkerError as error:
                errors.append(error)
                if self._closed:
                    break
        if errors:
            raise errors[0]
        return answers

    def _answer(self, index, kind, payload, history) -> bytes:
        """Reads a worker's answer, over a fresh worker if it has died."""
        try:
            return self._receive(index)
        except EOFError as error:
            first = str(error) or "died"
            self._replace(index)
        try:
            self._await_start(index)
            past = history(self._served[index])
            shared.send(self._processes[index].commands, shared.REPLAY, past)
            self._receive(index)
            shared.send(self._processes[index].commands, kind, payload)
            return self._receive(index)
        except (EOFError, BrokenPipeError) as error:
            hung = isinstance(error, EOFError) and str(error)
            self.close()
            raise WorkerError(
                f"{self._culprit(index)}: its environment worker was lost twice in the "
                f"same request (first it {first}, then it {hung or 'died'}); expected "
                "it to live"
            ) from None

    def _receive(self, index) -> bytes:
        """Reads one answer; EOFError when the worker is dead or hangs."""
        kind, payload = self._next_message(index, _HANG_SECONDS)
        if kind == shared.FAILED:
            raise WorkerError(f"{self._culprit(index)}: {payload.decode()}")
        return payload

    def _next_message(self, index, patience) -> tuple[bytes, bytes]:
        """Waits for a worker's next message; EOFError when it is dead or hangs."""
        process = self._processes[index]
        process.await_answer(lambda: int(self._slots.beats[index]), patience)
        return shared.receive(process.replies)

    def _culprit(self, index) -> str:
        """Names the task and the seed that a worker was at."""
        slot = int(self._slots.busy[index])
        return f"task {self._task}, seed {int(self._slots.seeds[slot])}"

    def _spawn(self, index) -> Process:
        """Starts one worker process."""
        self._slots.busy[index] = self._served[index][0]
        config = self._config | {"slots": self._served[index], "index": index}
        return Process(self._python, worker.__file__, config, memory=self._slots.fd)

    def _await_start(self, index) -> None:
        """Waits until a worker has built its environments."""
        try:
            kind, payload = self._next_message(index, _START_SECONDS)
        except EOFError as error:
            fate = str(error) or self._processes[index].fate()
            raise WorkerError(
                f"a worker of {self._task} under {self._python!r} {fate} while "
                "starting; its stderr says why"
            ) from None
        if kind == shared.FAILED:
            text = payload.decode()
            raise WorkerError(text.removeprefix("UserError: "))

    def _replace(self, index) -> None:
        """Puts a fresh process in a dead one's place."""
        self._processes[index].close_pipes()
        self._processes[index].wait(_PATIENCE_SECONDS)
        self._processes[index] = self._spawn(index)
