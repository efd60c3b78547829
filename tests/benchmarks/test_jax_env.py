"""The benchmark of environments on the device: small, whole."""

import json

import pytest

from tests.helpers import small_flags
from tests.helpers.entry_points import run, succeeds

SMALL = (*small_flags.MODEL, *small_flags.PLAN, "--repeats=1")


@pytest.mark.slow
def test_both_places_are_measured_in_one_run(tmp_path):
    out = tmp_path / "jax_env.json"
    said = succeeds(
        "benchmarks.jax_env", *SMALL, "--episodes=4", "--steps=6", "--host_steps=5",
        "--acting=2", "--acting_steps=3", "--host_acting=2", f"--out={out}",
    )  # fmt: skip
    rows = json.loads(out.read_text())["rows"]
    assert [(row["what"], row["where"]) for row in rows] == [
        ("random actions", "device"), ("random actions", "simulator"),
        ("none", "device"), ("none", "simulator"),
        ("plan", "device"), ("plan", "simulator"),
    ]  # fmt: skip
    assert all(row["steps_per_second"] > 0 for row in rows) and "plan, device" in said
    wrong = run("benchmarks.jax_env", "--acting=0")
    assert wrong.returncode == 2 and "--acting" in wrong.stderr
