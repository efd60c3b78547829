"""The worker processes of a collection: who records what, and what became of them."""

import contextlib
import dataclasses
import os
import select
import sys
import time
from collections.abc import Iterator

from sas_jax.data.collection import interrupts, worker
from sas_jax.data.collection.plan import Plan
from sas_jax.envs import imports, tasks
from sas_jax.envs import make as makers
from sas_jax.envs.vector import shared
from sas_jax.envs.vector.process import Process
from sas_jax.errors import UserError

_LOOK_SECONDS = 1.0
# Without a word of a step; a step takes milliseconds, imports from a slow disk longer.
_HANG_SECONDS = 120.0
_START_SECONDS = 300.0


def run(plan: Plan, parts, episodes: list[int], num_workers: int) -> Iterator[int]:
    """Yields episode numbers as their parts get written.

    Args:
      plan: what to record.
      parts: folder of the part files.
      episodes: numbers of the episodes to record.
      num_workers: processes, never more than episodes.

    Raises:
      UserError: a worker cannot start, reports a fault, dies, or makes no step for two
        minutes. However the iteration ends, Ctrl-C included, the workers are ended as
        well; parts stay.
    """
    task = tasks.get_task(plan.task)
    python = makers.python_of(task)
    config = {
        "registered": makers.registration(task),
        "imports": imports.MODULES,
        "path": [os.getcwd()] if python else sys.path,
        "plan": dataclasses.asdict(plan),
        "parts": str(parts),
        "parent": os.getpid(),
        "beat": _HANG_SECONDS / 20,
    }
    waiting = list(reversed(episodes))
    processes: dict[int, Process] = {}  # by the descriptor of their answers
    at: dict[int, int | None] = {}  # what each is recording; None while it starts
    silent: dict[int, float] = {}  # seconds without a word
    poller = select.poll()
    with interrupts.noticed() as check, _ended(processes):
        for _ in range(min(num_workers, len(episodes))):
            process = Process(python or sys.executable, worker.__file__, config)
            processes[process.replies], at[process.replies] = process, None
            silent[process.replies] = 0.0
            poller.register(process.replies, select.POLLIN)
        while at:
            check()
            looked = time.monotonic()
            ready = [descriptor for descriptor, _ in poller.poll(_LOOK_SECONDS * 1e3)]
            # No look counts for more: while Ctrl-Z stops all processes nobody hangs.
            passed = min(time.monotonic() - looked, _LOOK_SECONDS)
            for descriptor in at:
                silent[descriptor] += passed
            for descriptor in ready:
                process, silent[descriptor] = processes[descriptor], 0.0
                if not _has_done(process, plan, at[descriptor]):
                    continue
                done = at.pop(descriptor)
                if waiting:
                    at[descriptor] = waiting.pop()
                    _ask(process, at[descriptor])
                else:
                    poller.unregister(descriptor)
                if done is not None:
                    yield done
            _check_silence(plan, at, silent)
        check()


@contextlib.contextmanager
def _ended(processes: dict[int, Process]) -> Iterator[None]:
    """Ends the processes, however the body ends."""
    try:
        yield
    finally:
        for process in processes.values():
            process.close_pipes()
            process.popen.kill()
            process.popen.wait()


def _ask(process: Process, episode: int) -> None:
    """Sends a worker the number of its next episode."""
    try:
        shared.send(process.commands, b"e", b"%d" % episode)
    except BrokenPipeError:
        pass  # noticed when its answer is read


def _task_of(plan: Plan, episode: int | None) -> str:
    """What a worker is at, in words."""
    if episode is None:
        return "starting"
    return f"recording episode {episode} (seed {plan.environment_seed(episode)})"


def _check_silence(plan: Plan, at: dict, silent: dict) -> None:
    """UserError for a worker that has not said a word for too long."""
    for descriptor, episode in at.items():
        patience = _START_SECONDS if episode is None else _HANG_SECONDS
        if silent[descriptor] >= patience:
            raise UserError(
                f"{plan.task}: a worker process hung for {patience:g} s while "
                f"{_task_of(plan, episode)}; expected resets and steps to take less; "
                "run the same command again to go on"
            )


def _has_done(process: Process, plan: Plan, episode: int | None) -> bool:
    """Reads a worker's message: whether it has done what it was asked.

    False says that it gets on. UserError where not all went well.
    """
    what = _task_of(plan, episode)
    try:
        kind, payload = shared.receive(process.replies)
    except EOFError:
        raise UserError(
            f"{plan.task}: a worker process {process.fate()} while {what}; run the "
            "same command again to go on (and with fewer workers if memory ran out)"
        ) from None
    if kind == shared.FAILED:
        text = payload.decode()
        raise UserError(text if episode is None else f"{plan.task}, {what}: {text}")
    return kind != shared.BEAT
