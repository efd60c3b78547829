"""The worker processes of a collection: who records what, and what became of them."""

import dataclasses
import os
import select
import sys
from collections.abc import Iterator

from sas_jax.data.collection import worker
from sas_jax.data.collection.plan import Plan
from sas_jax.envs import imports, tasks
from sas_jax.envs import make as makers
from sas_jax.envs.vector import shared
from sas_jax.envs.vector.process import Process
from sas_jax.errors import UserError


def run(plan: Plan, parts, episodes: list[int], num_workers: int) -> Iterator[int]:
    """Yields episode numbers as their parts get written.

    Args:
      plan: what to record.
      parts: folder of the part files.
      episodes: numbers of the episodes to record.
      num_workers: processes, never more than episodes.

    Raises:
      UserError: a worker cannot start, reports a fault, or dies. However the iteration
        ends, Ctrl-C included, the workers are ended as well; parts stay.
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
    }
    waiting = list(reversed(episodes))
    processes: dict[int, Process] = {}  # by the descriptor of their answers
    at: dict[int, int | None] = {}  # what each is recording; None while it starts
    poller = select.poll()
    try:
        for _ in range(min(num_workers, len(episodes))):
            process = Process(python or sys.executable, worker.__file__, config)
            processes[process.replies], at[process.replies] = process, None
            poller.register(process.replies, select.POLLIN)
        while at:
            for descriptor, _ in poller.poll():
                process = processes[descriptor]
                done = at.pop(descriptor)
                _check(process, plan, done)
                if waiting:
                    at[descriptor] = waiting.pop()
                    _ask(process, at[descriptor])
                else:
                    poller.unregister(descriptor)
                if done is not None:
                    yield done
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


def _check(process: Process, plan: Plan, episode: int | None) -> None:
    """Reads a worker's answer; UserError where it is not that all went well."""
    what = "starting" if episode is None else f"recording episode {episode}"
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
