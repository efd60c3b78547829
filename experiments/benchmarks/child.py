"""A case in a process of its own, whose peak memory is then the case's alone."""

import multiprocessing
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.benchmarks.common import Case, Sample
from sas_jax.errors import UserError


def peak_bytes() -> int:
    """Largest resident set of this process so far.

    Linux's ru_maxrss survives exec, so a child's would begin at its parent's: the high
    water mark of the present address space is read where the system tells it.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(x.split()[1]) for x in lines if x.startswith("VmHWM"))
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Child:
    """Builds a case in a fresh interpreter and runs it there when called.

    The child inherits the cores that its parent is pinned to. `facts` holds what
    `build` reported; `peak_bytes()` asks for the peak so far and `base_bytes` is what
    the interpreter and its imports took before. Whoever waits for a child that the
    system has killed gets a UserError.
    """

    def __init__(self, build: Callable[..., tuple[Case, dict]], **kwargs: Any):
        """Calls `build(**kwargs)`, a module's function, and waits for its facts."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, build, kwargs), daemon=True
        )
        self._process.start()
        theirs.close()
        self.base_bytes, self.facts = self._receive()

    def __call__(self) -> Sample:
        """Runs the case once."""
        self._pipe.send("run")
        return Sample(*self._receive())

    def peak_bytes(self) -> int:
        """The child's peak so far."""
        self._pipe.send("peak")
        return self._receive()

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join()

    def _receive(self):
        try:
            is_good, value = self._pipe.recv()
        except EOFError:
            self._process.join()
            if self._process.exitcode == -signal.SIGKILL:
                raise UserError(
                    "a benchmark process was killed, probably for want of memory; "
                    "measure fewer cases at a time (training: --algos, --seeds)"
                ) from None
            raise RuntimeError(
                f"benchmark process died (exit {self._process.exitcode})"
            ) from None
        if not is_good:
            raise RuntimeError(f"benchmark process failed:\n{value}")
        return value


def _serve(pipe, build, kwargs):
    """The child's loop: build, then answer until the parent closes the pipe."""
    try:
        base = peak_bytes()
        run, facts = build(**kwargs)
        pipe.send((True, (base, facts)))
        while True:
            answer = tuple(run()) if pipe.recv() == "run" else peak_bytes()
            pipe.send((True, answer))
    except EOFError:
        return
    except Exception:
        pipe.send((False, traceback.format_exc()))
