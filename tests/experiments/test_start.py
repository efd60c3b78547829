"""What entry points tell JAX before its first use."""

import os
import subprocess
import sys

import pytest

from tests.helpers.entry_points import ROOT

SCRIPT = """
import sys
from experiments import start
from sas_jax.files import machine
machine.usable_cores = lambda: float(sys.argv[1])
start.cores_as_devices()
start.keep_programs(sys.argv[2])
import jax
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
jax.jit(lambda x: x + 1)(1.0)
print(len(jax.devices()))
"""


def started(cores, folder, **environment):
    """The number of devices that the script found."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(cores), str(folder)],
        cwd=ROOT,
        env=kept | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize(
    "cores, environment, devices",
    [
        (3, {}, 3),
        (0.5, {}, 1),
        (3, {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}, 2),
        (3, {"JAX_NUM_CPU_DEVICES": "2"}, 2),
    ],
)
def test_each_core_is_a_device_unless_somebody_set_a_number(
    tmp_path, cores, environment, devices
):
    assert started(cores, tmp_path, **environment) == devices


def test_programs_are_kept_in_a_folder_that_is_there(tmp_path):
    run, other = tmp_path / "run", tmp_path / "other"
    run.mkdir()
    started(1, run)
    kinds = list((run / "compiled").iterdir())
    assert len(kinds) == 1 and list(kinds[0].iterdir())
    # A packed checkpoint is a file; and who named a place keeps it.
    started(1, tmp_path / "model.zip")
    assert not (tmp_path / "model.zip").exists()
    other.mkdir()
    started(1, other, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine"))
    assert not list(other.iterdir()) and list((tmp_path / "mine").iterdir())
