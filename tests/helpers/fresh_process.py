"""Runs a module of the tests in a process of its own, for devices and XLA's passes."""

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers import xla_flags


def output_of(module: str, *arguments: str, devices: int = 1, optimised=False) -> str:
    """Standard output of `python -m tests.helpers.<module>`, which must end well.

    devices: virtual CPU devices that it sees. optimised: whether XLA's optimisations
    are on there; else as in the calling test.
    """
    flags, changed = os.environ.get("XLA_FLAGS", ""), {}
    if optimised:
        flags = xla_flags.plain(flags)
        changed["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "0"
    if devices > 1:
        flags = xla_flags.with_devices(flags, devices)
    changed["XLA_FLAGS"] = flags
    done = subprocess.run(
        [sys.executable, "-m", f"tests.helpers.{module}", *arguments],
        cwd=Path(__file__).resolve().parents[2],
        env=os.environ | changed,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
