"""The benchmark of the learners on single steps, and its PyTorch step."""

import json

import pytest

from experiments.benchmarks import offline_timing
from sas_jax import learners
from tests.benchmarks.test_benchmarks import run

SMALL = ["model.hidden=8", "train.batch_rows=16", "model.vae_hidden=8"]


@pytest.mark.parametrize("algo", ["cpq", "caps"])
@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_lanes_are_seeds_times_thresholds(algo, count):
    """Four: two seeds under two thresholds; without thresholds four seeds."""
    config = offline_timing.with_lanes(
        learners.default_config("PointGoal1", algo), count
    )
    assert len(config.train.lanes) == count
    learners.check(config)
    limits = len(config.train.cost_limits)
    assert limits == ({1: 1, 3: 3, 4: 2, 9: 3}[count] if algo == "cpq" else 0)


def test_every_learner_on_single_steps_is_known():
    assert {*offline_timing.ALGOS} <= {*learners.names()}


def test_the_pytorch_step_has_our_losses():
    """All four of CPQ, on the same parameters and draws."""
    pytest.importorskip("torch")
    from experiments.benchmarks.torch import cpq as torch_cpq
    from experiments.benchmarks.torch import timing

    config = offline_timing.with_lanes(learners.default_config("PointGoal1", "cpq"), 1)
    config = learners.override(config, SMALL)
    found = torch_cpq.differences(config)
    groups = ("vae", "critic", "cost_critic", "actor")
    assert {*found} == {f"{name}_loss" for name in groups}
    timing.require_equal(found)
    assert torch_cpq.case(config, 2)().wall > 0


@pytest.mark.slow
def test_the_benchmark(tmp_path):
    out = tmp_path / "offline.json"
    settings = [f"--set={setting}" for setting in SMALL]
    done = run(
        "offline",
        *settings,
        "--algos=cpq,bcq_lag",
        "--lanes=1,3",
        "--updates=2",
        "--repeats=1",
        f"--out={out}",
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    names = [f"{a}, {n}" for a in ("cpq", "bcq_lag") for n in ("1 lane", "3 lanes")]
    assert [row["case"] for row in rows] == names
    assert [row["gain"] is None for row in rows] == [True, False] * 2
    assert all(row["flops"] > 0 and row["lane_updates_a_second"] > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags, message",
    [
        (["--algos=cpg"], "--algos: unknown 'cpg'"),
        (["--algos=caps", "--torch"], "--torch: compares with cpq"),
        (["--lanes=0"], "--lanes=0: expected integers >= 1"),
    ],
)
def test_flags_that_do_not_fit(flags, message):
    done = run("offline", *flags)
    assert done.returncode == 2 and message in done.stderr
    assert done.stderr.count("\n") == 1
