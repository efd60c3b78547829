"""Starts entry points in forks of one process that has the imports already.

`run` does what `python -m experiments.NAME` does, some two seconds of imports sooner:
the fork has a memory of its own, reads its flags anew and starts JAX itself.
"""

import atexit
import functools
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_LONGEST = 600  # seconds


def run(
    name: str, *flags: str, cwd: str | Path = ROOT, any_checkpoint: bool = False
) -> subprocess.CompletedProcess:
    """Starts `experiments.NAME` with flags: its status, standard output and error.

    any_checkpoint: no checkpoint is read; every path is one of a run on PointGoal1
      with default settings.
    """
    call = [f"experiments.{name}", [str(flag) for flag in flags], str(cwd)]
    process = _server()
    process.stdin.write(json.dumps([*call, any_checkpoint]) + "\n")
    process.stdin.flush()
    status, out, error = json.loads(process.stdout.readline())
    return subprocess.CompletedProcess(call, status, out, error)


def succeeds(name: str, *flags: str) -> str:
    """Its output, once it has exited with status 0."""
    done = run(name, *flags)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@functools.cache
def _server() -> subprocess.Popen:
    """The process that forks; it ends with its standard input."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.entry_points"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    # Waiting counts its time as this process's own.
    atexit.register(lambda: (process.stdin.close(), process.wait()))
    return process


def _serve() -> None:
    import h5py  # noqa: F401
    import optax  # noqa: F401
    from jax._src import xla_bridge

    from sas_jax.evaluation import evaluate  # noqa: F401
    from sas_jax.training import fit  # noqa: F401
    from tests.helpers import quick_traces

    quick_traces.use()
    # Threads of a backend would not live on in a fork.
    assert not xla_bridge.backends_are_initialized()
    for line in sys.stdin:
        print(json.dumps(_fork(*json.loads(line))), flush=True)


def _fork(module, flags, cwd, any_checkpoint):
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as error:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(error.fileno(), 2)
            os.chdir(cwd)
            signal.alarm(_LONGEST)
            os._exit(_start(module, flags, any_checkpoint))
        _, status = os.waitpid(child, 0)
        out.seek(0)
        error.seek(0)
        return os.waitstatus_to_exitcode(status), out.read(), error.read()


def _start(module, flags, any_checkpoint) -> int:
    """Runs the module as `python -m` would; its exit status."""
    if any_checkpoint:
        from sas_jax import checkpoint
        from sas_jax.learners import default_config

        config = default_config("PointGoal1")
        loaded = types.SimpleNamespace(config=config, spec=None, step=1, run={})
        checkpoint.load = lambda *_, **__: loaded
    sys.argv = [module, *flags]
    status = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(bool(error.code))
    except BaseException as error:
        print(f"Traceback: {error!r}", file=sys.stderr)
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    _serve()
