"""What the model's benchmarks share: pinning, timing in turns, the matmul peak, tables.

Cases take turns, so that other load on the machine falls on all of them alike, and
ratios are formed within a round. On one CPU thread the clock is the process's own CPU
time; with more threads or on an accelerator it is wall time. Both are kept.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.benchmarks import results
from sas_jax.errors import UserError
from sas_jax.files import machine as machine_report

# The sizes at which one thread of the machines tried came closest to their peak, and an
# accelerator's.
_PEAK_SIZE = {"cpu": (512, 20)}
_PEAK_SIZE_ACCELERATOR = (8192, 5)
_BANDWIDTH_BYTES = 16 * 2**20


class Sample(NamedTuple):
    """Seconds of one run of a case."""

    cpu: float
    wall: float


Case = Callable[[], Sample]


def pin(threads: int) -> None:
    """Keeps this process and its children on `threads` cores; call before JAX starts.

    XLA makes its thread pool of as many threads as the process may use cores. The last
    ones are taken: others tend to begin with the first.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise UserError("--threads: this system cannot pin a process to cores")
    usable = sorted(os.sched_getaffinity(0))
    if not 1 <= threads <= len(usable):
        raise UserError(f"--threads={threads}: expected 1 to {len(usable)}")
    os.sched_setaffinity(0, usable[-threads:])


def timed(function: Callable[[], object]) -> Case:
    """A case that runs `function` and waits for the arrays it returns."""

    def case():
        cpu, wall = time.process_time(), time.perf_counter()
        jax.block_until_ready(function())
        return Sample(time.process_time() - cpu, time.perf_counter() - wall)

    return case


def interleave(
    cases: Mapping[str, Case], repeats: int, description: str
) -> dict[str, list[Sample]]:
    """Runs all cases once to warm up, then `repeats` rounds of all of them in turns."""
    samples = {name: [] for name in cases}
    for turn in tqdm(range(repeats + 1), desc=description, unit="round"):
        for name, case in cases.items():
            sample = case()
            if turn:
                samples[name].append(sample)
    return samples


def clock(threads: int) -> str:
    """The field of `Sample` that speeds come from; see the module's docstring."""
    return "cpu" if threads == 1 and jax.default_backend() == "cpu" else "wall"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles, extremes and number of some measurements."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {
        "median": float(middle),
        "low": float(low),
        "high": float(high),
        "min": float(min(values)),
        "max": float(max(values)),
        "n": len(values),
    }


def seconds(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """Spreads of CPU and wall seconds."""
    return {
        name: spread([getattr(sample, name) for sample in samples])
        for name in Sample._fields
    }


def ratios(
    first: Sequence[Sample], second: Sequence[Sample], field: str
) -> list[float]:
    """The ratio of two cases' seconds, round by round."""
    pairs = zip(first, second, strict=True)
    return [getattr(a, field) / getattr(b, field) for a, b in pairs]


def ratio(first: Sequence[Sample], second: Sequence[Sample], field: str) -> float:
    """Median over rounds of the ratio of two cases' seconds."""
    return statistics.median(ratios(first, second, field))


def peak_case(
    dtype: str = "float32", *, precision: str | None = None, size: int = 0
) -> tuple[Case, float]:
    """Matrix products in `dtype`, and the floating-point operations of a run.

    precision: JAX's name of one, None for the default. size: of the square matrices; 0
    is the backend's own.
    """
    backend = jax.default_backend()
    own, count = _PEAK_SIZE.get(backend, _PEAK_SIZE_ACCELERATOR)
    size = size or own
    matrix = jnp.full((size, size), 1.0 / size, dtype)  # its powers are itself

    @jax.jit
    def products(matrix):
        # In one program: a result of its own for each took half of a product's time.
        def multiply(_, x):
            return jnp.matmul(x, matrix, precision=precision)

        return jax.lax.fori_loop(0, count, multiply, matrix)

    return timed(lambda: products(matrix)), 2.0 * size**3 * count


def bandwidth_case() -> tuple[Case, float]:
    """Reads of a 16 MiB matrix by a matrix-vector product, and the bytes of a run.

    About the footprint of the rings of 100 trajectories: what the memory behind the
    first two caches delivers to one core.
    """
    matrix = jnp.ones((_BANDWIDTH_BYTES // 4 // 128, 128))
    vector = jnp.ones(128)
    product = jax.jit(lambda a, x: a @ x)
    case = timed(lambda: [product(matrix, vector) for _ in range(5)])
    return case, 5.0 * matrix.nbytes


def references() -> tuple[dict[str, Case], dict[str, float]]:
    """Cases "peak" and "bandwidth", and the operations or bytes of a run of each."""
    found = {"peak": peak_case(), "bandwidth": bandwidth_case()}
    return (
        {name: case for name, (case, _) in found.items()},
        {name: work for name, (_, work) in found.items()},
    )


def xla_flops(stage) -> float:
    """XLA's own count for a lowered or compiled program, nan where it has none."""
    analysis = stage.cost_analysis()
    analysis = analysis[0] if isinstance(analysis, list) else analysis
    return float((analysis or {}).get("flops", np.nan))


def machine() -> dict[str, object]:
    """Device, cores in use, load and commit; `results` adds processor and versions."""
    return {
        "device": jax.devices()[0].device_kind,
        "backend": jax.default_backend(),
        "pinned_cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "commit": machine_report.git_commit(),
    }


def finish(
    path: str, settings: Mapping[str, object], clock: str, measured: dict[str, object]
) -> None:
    """Prints what the table was measured on and writes the numbers beside it."""
    here = machine()
    print(
        f"{machine_report.machine_info()['processor']}, {here['device']}, "
        f"{here['pinned_cores']} core(s), clock: {clock} seconds, load average "
        f"{here['load_average']:.1f}"
    )
    measured = {"device": here, "clock": clock, **measured}
    print(f"written to {results.write_json(path, dict(settings), measured)}")


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned text: the first column to the left, the others to the right."""
    cells = [list(headers), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        first, *others = (
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join(lines)
