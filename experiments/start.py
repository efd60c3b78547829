"""What JAX must be told before its first use: cores as devices, kept programs."""

import os
from pathlib import Path

import jax

from sas_jax.files import machine


def cores_as_devices() -> None:
    """On a CPU, JAX has a device for each usable core from now on.

    Each works off a program of its own. One device alone has little use for a second
    core, since its operations are small. Who has set a number keeps it.
    """
    is_set = jax.config.jax_num_cpu_devices >= 0
    if not is_set and "host_platform_device_count" not in os.environ.get(
        "XLA_FLAGS", ""
    ):
        jax.config.update("jax_num_cpu_devices", max(int(machine.usable_cores()), 1))


def keep_programs(folder: str | os.PathLike[str]) -> None:
    """Keeps what is compiled below a run's folder, for the next time.

    Where that is no folder of this machine, or JAX was told of another place, nothing
    changes.
    """
    path = Path(folder)
    if path.is_dir() and not jax.config.jax_compilation_cache_dir:
        kept = str(machine.programs_folder(path))
        jax.config.update("jax_compilation_cache_dir", kept)
