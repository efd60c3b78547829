"""The engines: each is given a plain table of jobs."""

import importlib

from sas_jax.errors import UserError, nearest
from sas_jax.sweeps.engines.engine import Ended, Engine, Resources

__all__ = ["ENGINES", "Ended", "Engine", "Resources", "get"]

# Name -> the module whose `run` it is, imported when it is asked for.
ENGINES = {
    "local": "sas_jax.sweeps.engines.local",
    "ray": "sas_jax.sweeps.engines.ray",
    "slurm": "sas_jax.sweeps.engines.slurm",
}


def get(name: str) -> Engine:
    """The engine of that name.

    Raises:
      UserError: there is none, or its package is not installed.
    """
    if name not in ENGINES:
        known = ", ".join(ENGINES)
        raise UserError(f"engine: unknown {name!r}{nearest(name, ENGINES)} ({known})")
    return importlib.import_module(ENGINES[name]).run
