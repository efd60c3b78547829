"""sas_jax: Lyapunov-guided self-alignment (SAS) of sequence policies in JAX.

Public names load on first use (PEP 562), so that ``import sas_jax`` costs nothing
and the environment workers, which must not start an accelerator backend, can import
`sas_jax.envs` without importing JAX.
"""

import importlib

__version__ = "0.1.0"

# Public name -> module that defines it.
_EXPORTS: dict[str, str] = {}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str):
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'sas_jax' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
