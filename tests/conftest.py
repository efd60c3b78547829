"""Settings that hold before any test module imports JAX, and in subprocesses too.

Tests run on the CPU, and arrays of different rank never broadcast silently. Tests that
need several devices start a subprocess that sees more of them.
"""

import atexit
import os
import shutil
import tempfile

from tests.helpers import xla_flags

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
# Tests compile far more than they compute. Set it to 0 to test optimised code.
if os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") == "1":
    os.environ["XLA_FLAGS"] = xla_flags.quick(os.environ.get("XLA_FLAGS", ""))
os.environ.setdefault("MPLBACKEND", "agg")

# What one test has compiled, another one and its subprocesses need not compile again.
_CACHE = tempfile.mkdtemp(prefix="sas_jax_tests_")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
