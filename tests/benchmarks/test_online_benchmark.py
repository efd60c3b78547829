"""The benchmark of learning while acting, and its PyTorch step."""

import json

import pytest

from sas_jax.jax_envs import point_mass
from sas_jax.online import fit as online_fit
from sas_jax.studies import ladder
from tests.benchmarks.test_benchmarks import run


def test_the_pytorch_step_has_our_losses():
    pytest.importorskip("torch")
    from experiments.benchmarks.torch import sac, timing

    config = ladder.make_config("sac", seeds=1, updates=20, chunk=20)
    spec = online_fit.make_spec(ladder.TASK, point_mass.make())
    found = sac.differences(config, spec)
    assert {*found} == {"critic_loss", "actor_loss", "entropy_loss"}
    timing.require_equal(found)


@pytest.mark.slow
def test_the_benchmark(tmp_path):
    out = tmp_path / "online.json"
    done = run(
        "online", "--algos=sac", "--lanes=1,2", "--updates=20", "--repeats=1",
        f"--out={out}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert [row["case"] for row in rows] == ["sac, 1 seed", "sac, 2 seeds"]
    assert [row["gain"] is None for row in rows] == [True, False]
    assert all(
        row["environment_steps_a_second"] == 10 * row["seed_updates_a_second"]
        for row in rows
    )
