"""`watch` and `pack` as a user starts them."""

import pytest

from sas_jax import packed
from tests.evaluation.test_evaluate import make_checkpoint
from tests.helpers import short_goal
from tests.helpers.entry_points import run, succeeds


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """An untrained policy of the short task, in one file."""
    with short_goal.registered() as name:
        return packed.pack(
            make_checkpoint(task=name), tmp_path_factory.mktemp("policy") / "p.zip"
        )


@pytest.mark.slow
def test_a_layout_is_played_and_drawn(policy, tmp_path):
    out = succeeds(
        "watch",
        "--import=tests.helpers.short_goal_registered",
        f"--checkpoint={policy}",
        "--variants=none",
        "--layout=7",
        f"--out={tmp_path}",
    )
    name = f"{short_goal.TASK.name}_7"
    assert "none: return " in out and str(tmp_path / f"{name}.gif") in out
    assert (tmp_path / f"{name}.gif").read_bytes()[:3] == b"GIF"
    assert (tmp_path / f"{name}.png").stat().st_size > 5_000


@pytest.mark.slow
def test_bad_input_is_one_line(tmp_path):
    (tmp_path / "file.zip").write_text("nothing")
    for name, flags, said in (
        ("watch", [f"--checkpoint={tmp_path / 'file.zip'}"], "partial or damaged"),
        ("watch", [f"--checkpoint={tmp_path / 'none'}"], "no folder 'checkpoints'"),
        ("watch", ["--variants="], "--variants: expected at least one"),
        ("pack", ["--out=x.zip"], "--checkpoint: expected a path"),
    ):
        done = run(name, *flags, cwd=tmp_path)
        assert done.returncode == 2 and said in done.stderr, done.stderr
        assert done.stderr.strip().count("\n") == 0
