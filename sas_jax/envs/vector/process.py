"""One worker process, started by the path of its script, and the two pipes to it.

Started by path and not by `multiprocessing`: a worker does not import the program that
asked for it, so a script needs no main guard, and its Python may be another one.
"""

import json
import os
import select
import signal
import subprocess
import sys

import numpy as np

from sas_jax.errors import UserError

# One thread each: parallelism comes from the number of workers.
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# Workers are many and share a machine: an environment in JAX must not take a card.
NO_ACCELERATOR = {"JAX_PLATFORMS": "cpu"}
_LOOK_SECONDS = 1.0


class Process:
    """A worker process. Its script is called with one argument, a JSON object.

    commands: descriptor to write messages to. replies: descriptor to read answers from.
    popen: the process.
    """

    def __init__(
        self, python: str, script: str, config: dict, *, memory: int | None = None
    ):
        """Starts it.

        python: interpreter. script: path of the worker's module. config: passed on,
        with the worker's ends of the pipes as `commands` and `replies`, and with
        `memory`, a descriptor that it is to inherit.

        Raises:
          UserError: there is no such interpreter.
        """
        commands, self.commands = os.pipe()
        self.replies, replies = os.pipe()
        config = config | {"commands": commands, "replies": replies}
        inherited = [commands, replies]
        if memory is not None:
            config["memory"] = memory
            inherited.append(memory)
        # Ctrl-C reaches the whole foreground group; what to do is the parent's
        # decision. A mask is inherited, so that it holds while Python starts, too.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.popen = subprocess.Popen(
                [python, script, json.dumps(config)],
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else None,
                pass_fds=inherited,
                env=os.environ | dict.fromkeys(ONE_THREAD, "1") | NO_ACCELERATOR,
            )
        except OSError as error:
            self.popen = None
            self.close_pipes()
            raise UserError(
                f"interpreter {python!r} cannot be started ({error.strerror}); "
                "expected the path of a Python"
            ) from error
        finally:
            os.close(commands)
            os.close(replies)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def close_pipes(self) -> None:
        """Closes the parent's ends; a healthy worker then leaves by itself."""
        for fd in (self.commands, self.replies):
            os.close(fd)

    def await_answer(self, beat, patience: float) -> None:
        """Returns when there is something to read, be it the end of the pipe.

        beat: () -> a number that changes while the worker gets on.
        patience: seconds without a beat. They are counted in short looks and not by the
            clock: while Ctrl-Z stops both processes nobody hangs.

        Raises:
          EOFError: the worker hung and was killed; says so.
        """
        poller = select.poll()
        poller.register(self.replies, select.POLLIN)
        last, looks = None, 0.0
        while not poller.poll(_LOOK_SECONDS * 1e3):
            last, previous = beat(), last
            looks = 0.0 if last != previous else looks + _LOOK_SECONDS
            if looks >= patience:
                self.popen.kill()
                raise EOFError(f"hung for {patience:g} s")

    def wait(self, seconds: float) -> None:
        """Waits for the end; kills what is still there after `seconds`."""
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()

    def fate(self) -> str:
        """How a process that has ended did so, in words; waits for the end."""
        status = self.popen.wait()
        if status >= 0:
            return f"ended with status {status}"
        name = signal.Signals(-status).name
        if name == "SIGKILL":
            return "was killed from outside (SIGKILL), as when memory runs out"
        return f"crashed ({name})"


def _has_descriptor(stream) -> bool:
    """Whether a stream stands for a real file (pytest and notebooks replace it)."""
    try:
        return np.isscalar(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return False
