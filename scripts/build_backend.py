"""Builds as flit does, with the entry points inside the wheel.

In a checkout they are the top-level package `experiments`. Installed under that name
they would collide with the reader's own folder, so in the wheel they lie in
`sas_jax/_commands`, from where the command `sas-jax` runs them.
"""

import contextlib
import shutil
from pathlib import Path

from flit_core import buildapi
from flit_core.buildapi import (  # noqa: F401 (the hooks of a build backend)
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

ROOT = Path(__file__).resolve().parents[1]
_INSIDE = ROOT / "sas_jax" / "_commands"
# Of no use without a checkout.
_LEFT_OUT = ("results", "benchmarks", "__pycache__")


@contextlib.contextmanager
def _entry_points_inside():
    """Copies `experiments` into the package for as long as the block lasts."""
    shutil.rmtree(_INSIDE, ignore_errors=True)
    try:
        shutil.copytree(
            ROOT / "experiments",
            _INSIDE / "experiments",
            ignore=shutil.ignore_patterns(*_LEFT_OUT),
        )
        yield
    finally:
        shutil.rmtree(_INSIDE, ignore_errors=True)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """See PEP 517."""
    with _entry_points_inside():
        return buildapi.build_wheel(
            wheel_directory, config_settings, metadata_directory
        )
