"""The model's benchmarks run at tiny sizes and write what they measured."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from experiments.benchmarks.child import Child
from sas_jax.errors import UserError
from tests.helpers import entry_points

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = [
    f"--set=model.{name}"
    for name in (
        "decoder.width=32",
        "decoder.depth=1",
        "decoder.context=6",
        "vae_hidden=32",
        "policy_hidden=32",
        "head_hidden=32",
        "latent_dim=4",
        "marginal_latent_dim=4",
    )
] + ["--repeats=1"]


def run(name, *flags):
    return subprocess.run(
        [sys.executable, "-m", f"experiments.benchmarks.{name}", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def measured(tmp_path, name, *flags, clock="cpu"):
    """Rows and the whole content of a benchmark's JSON, and its table's lines."""
    out = tmp_path / "deep" / f"{name}.json"
    done = run(name, *SMALL, *flags, f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert list(out.parent.iterdir()) == [out]
    content = json.loads(out.read_text())
    for row in content["rows"]:
        assert any(line.startswith(row["case"]) for line in done.stdout.splitlines())
    assert content["device"]["pinned_cores"] == 1 and content["clock"] == clock
    return content["rows"], content


IMAGINATION = ["--sizes=3", "--horizon=2", "--densities=transition"]


@pytest.mark.slow
def test_imagination(tmp_path):
    rows, content = measured(tmp_path, "imagination", *IMAGINATION, "--episodes=")
    (row,) = rows
    assert row["trajectories"] == 3 and content["calls"] == []
    # Every matrix product is counted; XLA counts elementwise work besides.
    assert 1.0 < row["xla_flops"] / row["model_flops"] < 1.5
    assert sum(row["shares"].values()) == pytest.approx(1.0)


@pytest.mark.slow
def test_algorithm_and_density(tmp_path):
    rows, content = measured(
        tmp_path,
        "imagination",
        *IMAGINATION[:2],
        "--densities=transition,none",
        "--episodes=2",
        "--align_horizon=6",
        "--align_repeats=1",
        "--set=sas.prompt_length=2",
        "--set=sas.num_first=2",
        "--set=sas.num_second=1",
    )
    full, bare, first, second = rows
    assert [row["trajectories"] for row in rows] == [3, 3, 4, 2]
    density = full["flops"]["density"]
    assert full["model_flops"] - bare["model_flops"] == density > 0
    assert 0.8 < (full["xla_flops"] - bare["xla_flops"]) / density < 1.5
    assert second["model_flops"] > first["model_flops"]  # its queries see the prompt
    (call,) = content["calls"]
    assert call["episodes"] == 2 and call["temporary_bytes"] > 0
    assert call["peak_bytes"] >= call["compiled_bytes"] > call["base_bytes"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("planner, sizes", [("plan", (1, 3)), ("plan_recall", (2,))])
def test_planning(tmp_path, planner, sizes):
    """No plans, references alone, and all candidates, for each number of robots."""
    settings = ("num_candidates=3", "num_reference=1", "horizon=4", "execute=2")
    rows, _ = measured(
        tmp_path,
        "planning",
        f"--sizes={','.join(map(str, sizes))}",
        "--plans=1",
        f"--variant={planner}",
        *(f"--set=sas.plan.{setting}" for setting in settings),
        clock="wall",
    )
    assert [(row["rows"], row["variant"]) for row in rows] == [
        (rows, variant) for rows in sizes for variant in ("none", planner, planner)
    ]
    assert [row["trajectory_steps"] for row in rows] == [0, 2, 6] * len(sizes)
    for row in rows:
        mean, slowest = row["milliseconds"], row["slowest_milliseconds"]
        assert 0 < mean["median"] <= slowest["median"]


@pytest.mark.slow
def test_acting(tmp_path):
    rows, _ = measured(tmp_path, "acting", "--sizes=2", "--steps=2")
    plain, prompted = rows
    assert prompted["carry_bytes"] > plain["carry_bytes"]
    assert prompted["model_flops"] > plain["model_flops"]
    assert plain["ring_copies"] == prompted["ring_copies"] == 0
    assert plain["milliseconds"]["n"] == 1


TRAINING = ["--seeds=1", "--episodes=4", "--steps=2", "--set=train.batch_rows=2"]
TRAINING.append("--set=train.row_length=12")
DT, CDT = "--algos=dt", "--algos=cdt"


@pytest.mark.slow
def test_training(tmp_path):
    (row,), content = measured(tmp_path, "training", *TRAINING, DT, "--nofit")
    assert 1.0 < row["xla_flops"] / row["model_flops"] < 1.5
    assert row["peak_bytes"] > row["base_bytes"] > 0
    wall = row["wall_milliseconds"]["median"]
    assert row["minutes_of_100k_steps"] == pytest.approx(wall / 0.6)
    assert row["dtype"] == "float32" and row["steps"] == 2
    assert set(content["peak_flops"]) == {"float32", "bfloat16"}
    assert min(content["peak_flops"].values()) > 0


@pytest.mark.slow
def test_training_of_cdt(tmp_path):
    seeds = [flag for flag in TRAINING if not flag.startswith("--seeds")]
    rows, _ = measured(tmp_path, "training", *seeds, CDT, "--seeds=1,2", "--nofit")
    assert [row["seeds"] for row in rows] == [1, 2]
    assert 1.0 < rows[0]["xla_flops"] / rows[0]["model_flops"] < 1.6


def killed_by_the_system():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_process_that_the_system_killed_is_told_in_one_line():
    with pytest.raises(UserError, match="was killed, .* memory; measure fewer cases"):
        Child(killed_by_the_system)


@pytest.mark.slow
def test_memory_of_fit(tmp_path):
    (_, fit), _ = measured(tmp_path, "training", *TRAINING, DT)
    assert fit["peak_bytes"] > fit["base_bytes"] > 0


FLAGS = [
    ("imagination", "--densities=joint", "joint"),
    ("acting", "--sizes=0", "--sizes"),
    ("planning", "--plans=0", "--plans"),
    ("training", "--threads=4096", "--threads"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name, flag, culprit", FLAGS)
def test_bad_flags_are_one_line(name, flag, culprit):
    done = entry_points.run(f"benchmarks.{name}", flag)
    assert done.returncode == 2
    assert culprit in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_plane_is_timed_beside_the_simulator(tmp_path):
    out = tmp_path / "jax_env.json"
    flags = ("--episodes=2", "--repeats=1", "--host_steps=5", f"--out={out}")
    done = run("jax_env", *flags)
    assert done.returncode == 0, done.stderr
    text = out.read_text()
    assert "steps_per_second" in text and "steps_per_cpu_second" in text


PLAN_BUDGET = """
tasks = ["PointGoal1"]
variants = ["plan"]

[[methods]]
name = "few"
settings = {model}
acting = {plan}
"""


@pytest.mark.slow
def test_plan_budget(tmp_path):
    """Budgets by hand: 4 x 4 / 2 at most, 2 x 4 / 2 where the policy may act."""
    from sas_jax.files import results
    from tests.helpers.report_samples import make_row

    def group(prefix, **values):
        """An inline table of TOML."""
        pairs = (f'"{prefix}.{k}" = {json.dumps(v)}' for k, v in values.items())
        return "{" + ", ".join(pairs) + "}"

    model = group(
        "model",
        **{"decoder.width": 32, "decoder.depth": 1, "decoder.context": 6},
        **dict.fromkeys(("vae_hidden", "policy_hidden", "head_hidden"), [32]),
        **dict.fromkeys(("latent_dim", "marginal_latent_dim"), 4),
    )
    plan = group("sas.plan", num_candidates=4, num_reference=2, horizon=4, execute=2)
    text = PLAN_BUDGET.format(model=model, plan=plan)
    (tmp_path / "plan.toml").write_text(text)
    rows = [
        make_row(algo="few", variant=v, episode_seed=i, cost=c + i, plan_idle=0.25)
        for v, c in (("none", 50.0), ("plan", 20.0))
        for i in range(8)
    ]
    results.write_results(tmp_path / "rows.csv", rows)
    out = tmp_path / "budget.json"
    given = [f"--plan={tmp_path / 'plan.toml'}", f"--results={tmp_path / 'rows.csv'}"]
    done = run("plan_budget", *given, "--plans=1", "--repeats=1", f"--out={out}")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(out.read_text())["rows"]
    assert row["trajectory_steps_at_most"] == 8
    assert row["trajectory_steps"] == 0.25 * 4 + 0.75 * 8
    assert row["cost_minus_none"]["mean"] == -30 and row["layouts"] == 8
    assert 0 < row["milliseconds"] < row["slowest_milliseconds"]
    assert out.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    wrong = run("plan_budget", given[0], f"--out={out}")
    assert wrong.returncode != 0 and "--results: expected the CSV" in wrong.stderr
