"""Measures and warnings on data whose answers are known, and the page of them."""

import dataclasses
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from sas_jax.data import dsrl, quality
from sas_jax.report import data_page
from tests.helpers.dsrl_samples import make_sound as make
from tests.helpers.entry_points import run

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_trajectory_quality_is_on_dsrls_scale():
    # Mean return 50 * 0.3 = 15 on PointGoal1's 0.0119601 .. 30.0711.
    expected = (15 - 0.0119601) / (30.0711 - 0.0119601)
    assert quality.trajectory_quality(make()) == pytest.approx(expected, rel=1e-6)


def test_coverage_counts_distinct_steps():
    data = make()
    alone = quality.state_action_coverage(data)
    assert alone.samples == 300 and 0.9 < alone.share <= 1.0
    same = make(
        observations=np.tile(data.observations[:1], (300, 1)),
        actions=np.tile(data.actions[:1], (300, 1)),
    )
    assert quality.state_action_coverage(same).cells == 1
    # Against itself the share is 1; a set of one point covers one of all cells.
    assert quality.state_action_coverage(data, data).share == 1.0
    assert quality.state_action_coverage(same, data).cells == 1
    again = quality.state_action_coverage(data)
    assert again == alone


def test_coverage_grows_with_spread_and_near_steps_share_cells():
    rng = np.random.default_rng(0)
    wide, narrow = make(count=40), make(count=40)
    shrunk = dataclasses.replace(
        narrow,
        observations=(0.2 * narrow.observations),
        actions=0.2 * narrow.actions,
    )
    near = quality.state_action_coverage(shrunk, wide).share
    assert near < 0.5
    centre = rng.normal(size=60).astype(np.float32)
    tight = dataclasses.replace(
        wide,
        observations=centre + 1e-4 * wide.observations,
        actions=np.zeros_like(wide.actions),
    )
    assert quality.state_action_coverage(tight, wide).cells < 5


def test_coverage_compares_equal_numbers_of_steps():
    small, large = make(count=4), make(count=40, seed=1)
    coverage = quality.state_action_coverage(large, small)
    assert coverage.samples == small.num_steps
    assert coverage.share == pytest.approx(1.0, abs=0.1)


def test_page_holds_numbers_and_pictures(tmp_path):
    lengths = np.array([30, 50, 20])
    data = make(count=2, length=50)
    data = dataclasses.replace(
        data,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        final_observations=np.zeros((3, 60), np.float32),
        terminated=np.array([True, False, False]),
    )
    page = data_page.write_page(
        tmp_path / "page", data, source="somewhere.hdf5", notes=["read in part"]
    )
    text = page.read_text()
    assert "3 episodes" in text and "20 to 50 an episode" in text
    assert "- read in part\n- early-timeouts: 2 of 3 episodes time out" in text
    assert "somewhere.hdf5" in text and data.fingerprint() in text
    assert "| 20 | 2 (67%) |" in text  # costs 15, 25, 10
    pictures = re.findall(r"\]\((.*\.png)\)", text)
    assert len(pictures) == 3
    for picture in pictures:
        assert (tmp_path / "page" / picture).read_bytes().startswith(b"\x89PNG")


def test_bars_of_costs_near_zero_can_be_seen():
    """Safe data on an axis that reaches to the loosest threshold."""
    figure = data_page._return_cost(make(costs=np.zeros(300, np.float32)))
    plane, histogram = figure.axes
    (bar,) = [patch for patch in histogram.patches if patch.get_height() > 0]
    assert bar.get_height() == 6
    low, high = histogram.get_xlim()
    assert bar.get_width() > 0.01 * (high - low)


@pytest.mark.slow
def test_the_command(tmp_path):
    dsrl.write(tmp_path / "a.hdf5", make(costs=np.zeros(300, np.float32)))
    done = run("inspect", f"--data={tmp_path}/a.hdf5", f"--out={tmp_path}/page")
    assert done.returncode == 0, done.stderr
    assert "warning: all-episodes-safe: the largest cost" in done.stdout
    assert f"data: {tmp_path}/a.hdf5: 6 episodes of PointGoal1" in done.stdout
    assert (tmp_path / "page/index.md").is_file()
    done = run("inspect")
    assert done.returncode == 2 and "--data is missing" in done.stderr


@pytest.mark.slow
def test_the_reading_benchmark_runs(tmp_path):
    command = [sys.executable, "-m", "experiments.benchmarks.data", "--steps=2000"]
    done = subprocess.run(
        [*command, "--repeats=1", f"--out={tmp_path}/a.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("raw h5py") == 4 and (tmp_path / "a.json").is_file()
