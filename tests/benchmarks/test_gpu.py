"""The GPU benchmark on a CPU: sizes, guards, what is written, and the whole script."""

import json
import os
import subprocess
import sys

import pytest

from experiments.benchmarks.gpu import cases as gpu_cases
from experiments.benchmarks.gpu import plan as gpu_plan
from experiments.benchmarks.gpu import run as gpu_run
from sas_jax.errors import UserError
from tests.benchmarks.test_benchmarks import ROOT


def test_given_sizes_replace_the_others():
    given = {"trajectories": ["7", "8"], "episodes": [], "horizon": 3}
    sizes = gpu_plan.sizes_of(gpu_plan.SMOKE, given)
    assert (sizes.trajectories, sizes.episodes, sizes.horizon) == ((7, 8), (), 3)
    assert sizes.seeds == gpu_plan.SMOKE.seeds
    assert gpu_plan.sizes_of(gpu_plan.Sizes(), {}) == gpu_plan.Sizes()


@pytest.mark.parametrize(
    "given, culprit",
    [
        ({"modes": ["fp32", "fp64"]}, "--modes.*fp64"),
        ({"modes": []}, "--modes"),
        ({"trajectories": ["0"]}, "--trajectories"),
        ({"trajectories": []}, "--trajectories"),
        ({"episodes": ["x"]}, "--episodes"),
        ({"steps": 0}, "--steps"),
        ({"data_episodes": 1}, "--data_episodes"),
    ],
)
def test_wrong_sizes_are_one_line(given, culprit):
    with pytest.raises(UserError, match=culprit) as error:
        gpu_plan.sizes_of(gpu_plan.Sizes(), given)
    assert "\n" not in str(error.value)


def _fail(error):
    raise error


def test_one_case_that_fails_leaves_the_others_alone(tmp_path):
    path = tmp_path / "gpu.json"
    recorder = gpu_run.Recorder(str(path), {"x": 1}, {"y": 2}, budget=1e6)

    def cases():
        return {row["case"]: row for row in json.loads(path.read_text())["rows"]}

    assert cases() == {}  # whole from the beginning
    recorder.measure("one", lambda value: {"value": value}, 3)
    assert cases()["one"]["value"] == 3
    memory = RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore")
    row = recorder.measure("two", _fail, memory)
    assert row["error"] == cases()["two"]["error"] == gpu_run.MEMORY
    assert recorder.failures == []
    recorder.measure("three", _fail, ValueError("a shape\nof two lines"))
    assert cases()["three"]["error"] == "ValueError: a shape"
    recorder.measure("four", lambda: {"value": 4})
    assert cases()["four"]["value"] == 4
    assert [row["case"] for row in recorder.failures] == ["three"]
    assert list(tmp_path.iterdir()) == [path]


def test_no_case_begins_when_the_time_is_up(tmp_path):
    recorder = gpu_run.Recorder(str(tmp_path / "gpu.json"), {}, {}, budget=-1.0)
    row = recorder.measure("one", _fail, AssertionError("it began"))
    assert row["error"] == gpu_run.SKIPPED and recorder.failures == []


def test_modes_differ_in_the_compiled_program():
    import jax
    import jax.numpy as jnp

    def text(mode):
        with gpu_cases.precision_of(mode):
            return jax.jit(lambda a: a @ a).lower(jnp.ones((4, 4))).as_text()

    assert "HIGHEST" in text("fp32") and "HIGHEST" not in text("tf32")


def _script(*flags, **environ):
    return subprocess.run(
        ["bash", "experiments/benchmarks/gpu/gpu.sh", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHON": sys.executable} | environ,
    )


@pytest.mark.slow
def test_smoke(tmp_path):
    out = tmp_path / "deep" / "gpu.json"
    flags = ("--trajectories=20", "--seeds=1", "--budget=1e6")
    done = _script("--smoke", *flags, f"--out={out}")
    assert done.returncode == 0, done.stderr
    content = json.loads(out.read_text())
    rows = {row["case"]: row for row in content["rows"]}
    assert not [row for row in rows.values() if "error" in row]
    for name in rows:
        assert name in done.stdout
    assert {name.split(",")[0] for name in rows} == {
        "products", "copy", "imagination", "Algorithm 1", "selection beside fp32",
        "control", "random actions", "whole episodes", "training",
    }  # fmt: skip
    float_row = rows["imagination, P = 20, fp32"]
    half_row = rows["imagination, P = 20, bf16"]
    assert float_row["ring_bytes"] == 2 * half_row["ring_bytes"]
    assert float_row["milliseconds_a_step"] > 0 < float_row["share_of_bandwidth"]
    planning = rows["control, plan, 2 robots, fp32"]
    assert 0 < planning["milliseconds_a_step"] <= planning["slowest_milliseconds"]
    assert 0 <= rows["selection beside fp32"]["same"]["bf16"]["prompt"] <= 1
    assert content["settings"]["episodes"] == [2]
    assert content["environment"]["platform"] == "cpu"


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--modes=fp64", "--align_horizon=2", "--sizes=5"])
def test_bad_flags_of_the_script(flag, tmp_path):
    done = _script("--smoke", flag, f"--out={tmp_path / 'gpu.json'}")
    assert done.returncode == 2
    assert flag.split("=")[0].lstrip("-") in done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())
