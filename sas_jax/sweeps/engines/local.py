"""Cells as processes of this machine, each on cores of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO, Any

from sas_jax.files import machine
from sas_jax.sweeps.engines.engine import Ended, Resources
from sas_jax.sweeps.run_cell import Job

LOG = "log.txt"
_LOOK = 0.25  # seconds between two looks


def run(
    jobs: Sequence[Job], resources: Resources
) -> Generator[Ended | None, None, None]:
    """Runs jobs in order, as many at a time as there are cores for.

    Whatever ends the iteration ends the processes. See `engine.Engine`.
    """
    places = places_of(machine.cores(), resources)
    waiting = list(enumerate(jobs))[::-1]
    running: dict[int, tuple[int, subprocess.Popen, IO[Any]]] = {}
    try:
        while waiting or running:
            for place, cores in enumerate(places):
                if place not in running and waiting:
                    index, job = waiting.pop()
                    running[place] = (index, *_start(job, cores, len(places)))
            yield None
            time.sleep(_LOOK)
            for place, (index, process, log) in list(running.items()):
                if process.poll() is not None:
                    del running[place]
                    log.close()
                    yield Ended(index, _answer(process, jobs[index]))
    finally:
        _end([process for _, process, _ in running.values()])


def places_of(cores: Sequence[int], resources: Resources) -> list[list[int]]:
    """The cores of each cell that runs at a time: at least one place.

    Without a number of cores a cell, cells share them out evenly.
    """
    size = int(resources.cores)
    count = resources.cells or max(len(cores) // max(size, 1), 1)
    size = size or max(len(cores) // count, 1)
    starts = [size * place % max(len(cores) - size + 1, 1) for place in range(count)]
    return [list(cores[start : start + size]) for start in starts]


def _start(job: Job, cores: list[int], count: int) -> tuple[subprocess.Popen, IO[Any]]:
    """The process of a job, and its log."""
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    log = open(folder / LOG, "ab")
    env = dict(os.environ)
    # Same programs, seed after seed: they are compiled once.
    cache = machine.programs_folder(folder.parent.parent)
    env.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    if count > 1:
        # Several processes on one accelerator take memory as they need it.
        env.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    process = subprocess.Popen(
        [sys.executable, "-m", "sas_jax.sweeps.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=env,
        text=True,
        # Ctrl-C is for the sweep, which decides what becomes of its cells.
        start_new_session=True,
    )
    asked = {"cores": cores, "job": job.to_json()}
    assert process.stdin is not None
    # One that has died already is found out when it is looked at.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
    return process, log


def _answer(process: subprocess.Popen, job: Job) -> str:
    """What a process that has ended said, or how it died."""
    assert process.stdout is not None and process.stdin is not None
    text = process.stdout.read()
    process.stdout.close()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        return str(json.loads(text))
    except ValueError:
        code = process.returncode
        how = f"status {code}"
        if code < 0:
            how = signal.Signals(-code).name
            how += " (out of memory?)" if how == "SIGKILL" else ""
        log = Path(job.folder) / LOG
        return f"its process ended with {how}; see {log}"


def _end(processes: list[subprocess.Popen]) -> None:
    """Ends processes whose work is not wanted any more, and waits for them."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
