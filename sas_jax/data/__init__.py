"""Offline data: the DSRL format, behaviour collection, filters, quality, windows.

Public names load on first use, so that readers and collection workers, which are
numpy only, never import the modules here that need JAX.
"""

import importlib

# Public name -> module that defines it.
_EXPORTS = {
    "DataWarning": "sas_jax.data.dsrl",
    "from_dict": "sas_jax.data.conventions",
    "Episodes": "sas_jax.data.episodes",
    "load": "sas_jax.data.dsrl",
    "write": "sas_jax.data.dsrl",
}

__all__ = list(_EXPORTS)


def __getattr__(name: str):
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'sas_jax.data' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
