"""Algorithm 1's time and memory along N, M, T and the number of episodes."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.benchmarks import common, flops, imagination_timing
from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig


class Point(NamedTuple):
    """Sizes of a call: N, M, T, and B, the episodes at once."""

    N: int
    M: int
    T: int
    B: int

    @property
    def name(self) -> str:
        return " ".join(f"{k}={v}" for k, v in self._asdict().items())


def sweep(base: Point, axes: Mapping[str, Sequence[int]]) -> dict[str, list[Point]]:
    """Axis -> its points, in order, each differing from `base` in that size alone."""
    return {
        axis: [base._replace(**{axis: value}) for value in sorted(set(values))]
        for axis, values in axes.items()
    }


def cache_bytes(config: ExperimentConfig, point: Point) -> int:
    """Bytes of the rings: one a trajectory, of all candidates of the larger loop.

    The two loops follow one another and need no ring at the same time.
    """
    held = flops.ring_bytes(config)["held"]
    return held * max(point.N, point.M) * point.B


def step_bytes(spec: DataSpec, point: Point) -> int:
    """Bytes of all imagined steps: state, action and seven numbers each."""
    return (
        4
        * (spec.obs_dim + spec.action_dim + 7)
        * (point.N + point.M)
        * (point.T * point.B)
    )


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float | None:
    """Least-squares slope of log value over log size; None without two sizes."""
    if len(set(sizes)) < 2 or min(values) <= 0:
        return None
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def measure(
    config: ExperimentConfig,
    spec: DataSpec,
    points: Iterable[Point],
    *,
    repeats: int,
    clock: str,
) -> dict[Point, dict]:
    """Rows of Algorithm 1 (variant `sas`) at the points; equal ones are run once."""
    cases, facts, points = {}, {}, list(dict.fromkeys(points))
    for point in points:
        sas = dataclasses.replace(config.sas, num_first=point.N, num_second=point.M)
        cases[point.name], facts[point] = imagination_timing.build_align(
            dataclasses.replace(config, sas=sas),
            spec,
            episodes=point.B,
            horizon=point.T,
            variant="sas",
        )
    samples = common.interleave(cases, repeats, "Algorithm 1")
    rows = {}
    for point in points:
        runs = samples[point.name]
        spread = common.spread([getattr(run, clock) for run in runs])
        rows[point] = {
            "case": point.name,
            **point._asdict(),
            "seconds": common.seconds(runs),
            "seconds_an_episode": {
                k: v if k == "n" else v / point.B for k, v in spread.items()
            },
            "cache_bytes": cache_bytes(config, point),
            "step_bytes": step_bytes(spec, point),
            "temporary_bytes": facts[point].get("temporary_bytes"),
            "compile_seconds": facts[point]["compile_seconds"],
        }
    return rows


def growth(
    axes: Mapping[str, Sequence[Point]], rows: Mapping[Point, dict], clock: str
) -> dict[str, dict[str, float | None]]:
    """Axis -> exponents of the time and of the temporary memory in it.

    Along N and M, in N + M: the other loop is there all the same.
    """
    found = {}
    for axis, points in axes.items():
        sizes = [p.N + p.M if axis in "NM" else getattr(p, axis) for p in points]
        values = {
            "time": [rows[p]["seconds"][clock]["median"] for p in points],
            "temporary_bytes": [rows[p]["temporary_bytes"] or 0 for p in points],
        }
        found[axis] = {name: exponent(sizes, v) for name, v in values.items()}
    return found
