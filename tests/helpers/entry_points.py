"""Starts entry points one after the other, each in a fork that has the imports already.

python -m tests.helpers.entry_points '[["card", ["--data=a.hdf5"]], ...]'

Prints a JSON list of [exit status, standard error]. Checkpoints are not read: every one
is a run on PointGoal1 with default settings.
"""

import json
import os
import sys
import tempfile
import types

import h5py  # noqa: F401
import optax  # noqa: F401

from sas_jax import checkpoint
from sas_jax.learners import default_config
from sas_jax.training import fit  # noqa: F401

LOADED = types.SimpleNamespace(
    config=default_config("PointGoal1"), spec=None, step=1, run={}
)


def start(name: str, arguments: list[str]) -> tuple[int, str]:
    """Runs `python -m experiments.NAME ARGUMENTS` in a fork."""
    import runpy

    with tempfile.TemporaryFile("w+") as log:
        child = os.fork()
        if child == 0:
            os.dup2(log.fileno(), 2)
            checkpoint.load = lambda *_, **__: LOADED
            sys.argv = [name, *arguments]
            status = 0
            try:
                runpy.run_module(f"experiments.{name}", run_name="__main__")
            except SystemExit as error:
                status = error.code if isinstance(error.code, int) else 1
            except BaseException as error:
                print(f"Traceback: {error!r}", file=sys.stderr)
                status = 1
            sys.stderr.flush()
            os._exit(status or 0)
        _, status = os.waitpid(child, 0)
        log.seek(0)
        return os.waitstatus_to_exitcode(status), log.read()


if __name__ == "__main__":
    print(json.dumps([start(*call) for call in json.loads(sys.argv[1])]))
