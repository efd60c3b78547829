"""Settings that hold before any test module imports JAX, and in subprocesses too.

Tests run on the CPU, and arrays of different rank never broadcast silently. Tests that
need several devices start a subprocess that sees more of them.
"""

import os
from pathlib import Path

import pytest

from tests.helpers import xla_flags

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
# Tests compile far more than they compute. Set it to 0 to test optimised code.
if os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") == "1":
    os.environ["XLA_FLAGS"] = xla_flags.quick(os.environ.get("XLA_FLAGS", ""))
os.environ.setdefault("MPLBACKEND", "agg")

# What one test has compiled, another one and its subprocesses need not compile again.
# Nor need the next run: JAX knows a program by all that it depends on. `make clean`
# removes the folder, which never grows beyond this many bytes.
_CACHE = Path(__file__).resolve().parents[1] / ".cache" / "tests"
if os.access(_CACHE.parents[1], os.W_OK):
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_CACHE)
    os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(500 * 1024**2)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

# More than ten seconds of CPU each, the costliest first: those of the slow tests, then
# those of the others. Begun last, one of them would keep a process busy while the other
# has nothing left to do.
COSTLY = (
    "envs/test_used_slots.py",
    "benchmarks/test_benchmarks.py",
    "envs/test_lean.py",
    "alignment/test_axes.py",
    "experiments/test_demo.py",
    "benchmarks/test_gpu.py",
    "training/test_devices.py",
    "training/test_training_fit.py",
    "evaluation/test_evaluate.py",
    "alignment/test_in_flight.py",
    "evaluation/test_blocks.py",
    "package/test_docs.py",
    "alignment/test_companions.py",
    "alignment/test_gate.py",
    "learners/test_offline.py",
    "learners/test_bc.py",
    "studies/test_signals.py",
    "alignment/test_plan.py",
    "policies/test_prompt_sensitivity.py",
    "alignment/test_policy.py",
    "card/test_card.py",
)


def pytest_collection_modifyitems(items):
    """Orders files by their cost, as `make test` hands them out one by one.

    It runs in each process that has tests to do.
    """
    from tests.helpers import quick_traces  # imports JAX

    quick_traces.use()
    ranks = {Path(__file__).parent / name: i for i, name in enumerate(COSTLY)}
    assert all(path.is_file() for path in ranks), "a costly file has moved"
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.fixture(autouse=True)
def forgotten_imports():
    """Modules that a test imported as a user's are no worker's business afterwards."""
    from sas_jax.envs import imports

    before = list(imports.MODULES)
    yield
    imports.MODULES[:] = before
