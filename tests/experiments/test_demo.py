"""The demo as a user starts it, and what one does with its files."""

from pathlib import Path

import pytest

from sas_jax.files import results
from sas_jax.files.lock import FolderLock
from tests.helpers import short_goal
from tests.helpers.entry_points import run, succeeds

pytestmark = pytest.mark.slow
TINY = (
    "--set=model.decoder.width=16",
    "--set=model.decoder.depth=1",
    "--set=model.decoder.context=8",
    "--set=model.vae_hidden=16",
    "--set=model.latent_dim=4",
    "--set=model.marginal_latent_dim=4",
    "--set=train.chunk=1",
    "--set=train.checkpoint_every=1",
    "--set=train.row_length=40",
    "--set=train.batch_rows=2",
)


SHORT = (
    "--import=tests.helpers.short_goal_registered",
    f"--task={short_goal.TASK.name}",
)
DEMO = (
    *SHORT,
    "--variants=none,sas,plan",
    "--set=sas.horizon=8",
    "--set=sas.plan.num_candidates=3",
    "--set=sas.plan.num_reference=1",
    "--set=sas.plan.horizon=10",
    "--set=sas.plan.execute=10",
    "--set=sas.num_first=2",
    "--set=sas.num_second=2",
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """Folder of a demo run with three episodes, two training steps and two layouts."""
    folder = tmp_path_factory.mktemp("demo")
    out = succeeds(
        "demo",
        f"--out={folder}",
        "--episodes=3",
        "--steps=2",
        "--layouts=2",
        *DEMO,
        *TINY,
    )
    assert str(folder / "report.md") in out.splitlines()[-1]
    return folder


def test_demo_writes_its_page_and_every_picture(demo):
    page = (demo / "report.md").read_text()
    for picture in ("return_cost", "map", "training", "card", "energy"):
        assert f"{picture}.png" in page
        assert (demo / f"{picture}.png").stat().st_size > 5_000
    assert (demo / "episode.gif").read_bytes()[:3] == b"GIF"
    for word in ("commit", "jax 0.", "too small", "2 layouts"):
        assert word in page


def test_demo_rows_cover_variants_and_thresholds(demo):
    rows = results.read_results(demo / "results.csv")
    assert len(rows) == 3 * 2 and {row.cost_limit for row in rows} == {20.0}
    assert {row.variant for row in rows} == {"none", "sas", "plan"}
    assert all(row.length == short_goal.STEPS for row in rows)
    assert all((row.prompt_start >= 0) == (row.variant == "sas") for row in rows)
    assert all((row.num_plans > 0) == (row.variant == "plan") for row in rows)


def test_demo_run_again_repeats_nothing(demo):
    before = (demo / "results.csv").read_bytes()
    stamp = (demo / "results.csv").stat().st_mtime_ns
    succeeds(
        "demo",
        f"--out={demo}",
        "--episodes=3",
        "--steps=2",
        "--layouts=2",
        *DEMO,
        *TINY,
    )
    assert (demo / "results.csv").read_bytes() == before
    assert (demo / "results.csv").stat().st_mtime_ns == stamp


def test_two_demos_do_not_share_a_folder(tmp_path):
    lock = FolderLock(tmp_path, "demo")
    try:
        done = run("demo", f"--out={tmp_path}", *DEMO, *TINY)
    finally:
        lock.release()
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "demo is going on there already" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [".demo.lock"]


def test_evaluate_a_checkpoint_by_path(demo, tmp_path):
    out = succeeds(
        "evaluate",
        SHORT[0],
        f"--checkpoint={demo / 'model'}",
        "--variants=none,null",
        "--cost_limits=10",
        "--episodes=1",
        f"--out={tmp_path / 'r.csv'}",
    )
    assert "minus none" in out
    assert len(results.read_results(tmp_path / "r.csv")) == 2


def test_train_from_a_file(demo, tmp_path):
    flags = (
        SHORT[0],
        f"--data={demo / 'data.hdf5'}",
        f"--workdir={tmp_path / 'run'}",
        "--nocard",
        "--set=train.num_steps=2",
        *TINY,
    )
    assert "step 2;" in succeeds("train", *flags)
    other = run("train", *flags, "--set=train.learning_rate=0.1")
    assert other.returncode == 2
    assert "train.learning_rate" in other.stderr


def test_plot_and_inspect(demo, tmp_path):
    results_file, plots = demo / "results.csv", tmp_path / "plots"
    succeeds("plot", SHORT[0], f"--results={results_file}", f"--out={plots}")
    assert list(plots.glob("*.png"))
    data, page = demo / "data.hdf5", tmp_path / "page"
    assert succeeds("inspect", SHORT[0], f"--data={data}", f"--out={page}")
