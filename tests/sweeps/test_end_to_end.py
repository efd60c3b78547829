"""Whole sweeps over small trainings: killed, resumed, and the table is the same."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sas_jax.files.results import read_results
from sas_jax.sweeps.table import CHECKPOINT

ROOT = Path(__file__).resolve().parents[2]
SWEEP = [
    "--import=tests.helpers.short_goal_registered",
    "--tasks=PointGoal9",
    "--algos=bc",
    "--seeds=0,1",
    "--episodes=6",
    "--layouts=3",
    "--cost_limits=20",
    "--cells=1",
    # Twenty checkpoints: time enough to be killed between two.
    "--set=train.num_steps=400",
    "--set=train.batch_rows=16",
    "--set=train.chunk=20",
    "--set=train.checkpoint_every=20",
    "--set=model.hidden=16",
]


def start(out, *flags):
    """Starts the sweep; its output goes to a file beside it."""
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "said.txt", "ab") as said:
        command = [sys.executable, "-m", "experiments.sweep", *SWEEP, f"--out={out}"]
        return subprocess.Popen(
            [*command, *flags], cwd=ROOT, stdout=said, stderr=subprocess.STDOUT
        )


def wait_for_checkpoint(out, process, least=40):
    """Until some cell has a checkpoint of at least that step."""
    for _ in range(3000):
        for path in out.glob("models/*/checkpoints/*"):
            if path.name.isdigit() and int(path.name) >= least:
                return
        assert process.poll() is None, (out / "said.txt").read_text()
        time.sleep(0.1)
    raise AssertionError("no checkpoint in five minutes")


def rows_of(out):
    return read_results(out / "results.csv")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The folder of a sweep that nothing disturbed."""
    out = tmp_path_factory.mktemp("unbroken")
    assert start(out).wait(600) == 0, (out / "said.txt").read_text()
    return out


@pytest.mark.slow
def test_a_sweep_killed_in_training_ends_with_the_same_table(unbroken, tmp_path):
    process = start(tmp_path)
    wait_for_checkpoint(tmp_path, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(tmp_path.glob("cells/*/results.csv"))
    # Its cell has heard of it, and holds no lock any more.
    assert start(tmp_path).wait(600) == 0, (tmp_path / "said.txt").read_text()
    assert rows_of(tmp_path) == rows_of(unbroken) and len(rows_of(unbroken)) == 6
    # Each seed is a model of its own.
    assert len({row.extra[CHECKPOINT] for row in rows_of(unbroken)}) == 2


@pytest.mark.slow
def test_rows_alone_are_enough_elsewhere_and_more_layouts_are_added(unbroken, tmp_path):
    for name in ("results.csv", "results.json"):
        (tmp_path / name).write_bytes((unbroken / name).read_bytes())
    before = time.monotonic()
    assert start(tmp_path).wait(600) == 0
    assert not (tmp_path / "cells").exists() and not (tmp_path / "data").exists()
    assert time.monotonic() - before < 120
    # Its checkpoints are not here: trained again, to the same bits.
    said = (tmp_path / "said.txt").read_text
    assert start(tmp_path, "--layouts=5").wait(600) == 0, said()
    old, new = rows_of(unbroken), rows_of(tmp_path)
    assert len(new) == 10 and all(row in new for row in old)


@pytest.mark.slow
def test_a_cell_that_cannot_be_trained_is_one_line(unbroken, tmp_path):
    process = start(tmp_path, "--data=nowhere/{task}.hdf5")
    assert process.wait(600) == 2
    said = (tmp_path / "said.txt").read_text()
    assert said.count("nowhere/PointGoal9.hdf5") == 2 and "Traceback" not in said
    assert said.splitlines()[-1].startswith("error: 2 of 2 cells failed")


_TINY_DT = """
[[methods]]
algo = "dt"
settings = {"sas.num_first" = 2}

[[methods]]
name = "dt_3"
algo = "dt"
settings = {"sas.num_first" = 2}
acting = {"sas.num_first" = 3}
"""
_TINY = {
    "model.decoder.width": 16,
    "model.decoder.depth": 1,
    "model.decoder.num_heads": 2,
    "model.decoder.context": 8,
    "model.vae_hidden": 16,
    "model.policy_hidden": 16,
    "train.num_steps": 40,
    "train.batch_rows": 4,
    "train.row_length": 16,
    "train.chunk": 10,
    "train.checkpoint_every": 10,
    "train.warmup": 5,
    "sas.num_second": 2,
    "sas.horizon": 30,
}


@pytest.mark.slow
def test_methods_that_act_differently_are_trained_once(tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(_TINY_DT)
    command = [sys.executable, "-m", "experiments.sweep", *SWEEP[:2], *SWEEP[4:7]]
    command += [f"--set={name}={value}" for name, value in _TINY.items()]
    command += [f"--plan={plan}", f"--out={tmp_path}", "--variants=none,sas"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("models/*"))) == 1
    rows = rows_of(tmp_path)
    assert len(rows) == 12
    assert len({row.extra[CHECKPOINT] for row in rows}) == 1
    levels = {
        name: [row.level for row in rows if (row.algo, row.variant) == (name, "sas")]
        for name in ("dt", "dt_3")
    }
    assert len(levels["dt"]) == 3 and levels["dt"] != levels["dt_3"]
    # Without a prompt both are the same policy.
    none = [
        [r.cost for r in rows if r.algo == n and r.variant == "none"] for n in levels
    ]
    assert none[0] == none[1]
