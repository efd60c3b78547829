"""The growth of Algorithm 1's cost: its counts, its exponents and its script."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from experiments.benchmarks import imagination_timing, model_cases, scaling_timing
from experiments.benchmarks.scaling_timing import Point
from sas_jax.alignment.imagination import imagine
from sas_jax.gaussian import split_keys
from sas_jax.learners import sequence
from tests.benchmarks.test_benchmarks import ROOT, SMALL
from tests.helpers import entry_points
from tests.helpers.model_fixtures import make_config


@pytest.mark.slow
@pytest.mark.parametrize("algo, dtype", [("dt", "float32"), ("cdt", "bfloat16")])
def test_counted_bytes_are_the_arrays(algo, dtype):
    config = make_config(decoder={"depth": 1, "dtype": dtype}, algo=algo)
    spec, point = model_cases.make_spec(config), Point(N=3, M=2, T=7, B=4)
    model = sequence.make_sequence_model(config, spec)

    def run(variables, key, obs):
        keys = split_keys(key, obs.shape[0])
        state = imagination_timing.start(model, variables, keys, obs)
        steps, _ = imagine(model.step, variables, keys, state, horizon=point.T)
        return state.ring, steps

    def size(tree):
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))

    variables, key = model_cases.make_variables(config, spec), jax.random.key(0)
    obs = np.zeros((point.N * point.B, spec.obs_dim), np.float32)
    ring, first = jax.eval_shape(run, variables, key, obs)
    obs = obs[: point.M * point.B]
    _, second = jax.eval_shape(run, variables, key, obs)
    assert scaling_timing.cache_bytes(config, point) == size(ring)
    assert scaling_timing.step_bytes(spec, point) == size(first) + size(second)
    larger = point._replace(M=6)
    assert scaling_timing.cache_bytes(config, larger) == 2 * size(ring)


def test_exponents():
    sizes = np.array([1, 2, 5, 20])
    assert scaling_timing.exponent(sizes, 0.3 * sizes) == pytest.approx(1.0)
    assert scaling_timing.exponent(sizes, 4.0 * sizes**2) == pytest.approx(2.0)
    assert scaling_timing.exponent(sizes, np.ones(4)) == pytest.approx(0.0)
    assert scaling_timing.exponent([5], [1.0]) is None


def test_each_axis_is_swept_alone():
    base = Point(5, 6, 100, 20)
    axes = scaling_timing.sweep(base, {"N": [7, 1, 7], "B": [20]})
    assert axes == {"N": [base._replace(N=1), base._replace(N=7)], "B": [base]}


def _run(*flags):
    return subprocess.run(
        [sys.executable, "-m", "experiments.benchmarks.scaling", *SMALL, *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_scaling(tmp_path):
    out = tmp_path / "deep" / "scaling.json"
    done = _run(
        "--first=1,2",
        "--second=",
        "--horizons=6,4",
        "--episodes=",
        "--base=2,1,6,2",
        "--headline=3",
        "--rounds=1",
        "--set=sas.prompt_length=2",
        f"--out={out}",
    )
    assert done.returncode == 0, done.stderr
    content = json.loads(out.read_text())
    rows = {row["case"]: row for row in content["rows"]}
    assert set(rows) == {
        "N=1 M=1 T=6 B=2", "N=2 M=1 T=6 B=2", "N=2 M=1 T=4 B=2", "N=2 M=1 T=6 B=3",
    }  # fmt: skip
    for name, row in rows.items():
        assert any(line.startswith(name) for line in done.stdout.splitlines())
        assert row["temporary_bytes"] > row["cache_bytes"] > 0
        total = row["seconds"]["cpu"]["median"]
        per_episode = row["seconds_an_episode"]["median"]
        assert per_episode == pytest.approx(total / row["B"])
    assert content["headline"]["case"] == "N=2 M=1 T=6 B=3"
    for axis in "NT":
        assert np.isfinite(content["exponents"][axis]["time"])
    assert content["exponents"]["M"] == {"time": None, "temporary_bytes": None}
    with Image.open(out.with_suffix(".png")) as picture:
        assert picture.width > 500


@pytest.mark.slow
def test_growth_and_figure(tmp_path):
    from experiments.benchmarks.scaling_figure import scaling_figure

    base = Point(2, 2, 10, 4)
    lists = {"N": [1, 2], "M": [2], "T": [10, 20, 40], "B": [4, 8]}
    axes = scaling_timing.sweep(base, lists)
    rows = {}
    for point in (p for points in axes.values() for p in points):
        seconds = 0.1 * (point.N + point.M) * point.T * point.B**2
        spread = {"median": seconds, "low": 0.9 * seconds, "high": 1.1 * seconds}
        rows[point] = {
            "seconds": {"cpu": spread},
            "temporary_bytes": 1000 * point.B,
            "cache_bytes": 500 * point.B,
            "step_bytes": 10 * point.T,
        }
    found = scaling_timing.growth(axes, rows, "cpu")
    assert found["T"] == pytest.approx({"time": 1.0, "temporary_bytes": 0.0}, abs=1e-9)
    assert found["B"] == pytest.approx({"time": 2.0, "temporary_bytes": 1.0})
    assert found["M"] == {"time": None, "temporary_bytes": None}
    # Along N, in N + M: the second loop's two imaginations cost the same.
    assert found["N"] == pytest.approx({"time": 1.0, "temporary_bytes": 0.0}, abs=1e-9)
    path = scaling_figure(tmp_path / "growth.png", axes, rows, found, "cpu")
    with Image.open(path) as picture:
        assert picture.width > 500


@pytest.mark.slow
def test_bad_base_is_one_line():
    done = entry_points.run("benchmarks.scaling", "--base=5,5")
    assert done.returncode == 2
    assert "--base" in done.stderr and done.stderr.count("\n") == 1


def test_points_have_names():
    assert Point(1, 2, 3, 4).name == "N=1 M=2 T=3 B=4"
