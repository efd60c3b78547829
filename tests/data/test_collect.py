"""Collection: one file whatever the workers and interruptions; refusals in a line."""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from sas_jax.data import collect, dsrl
from sas_jax.data.behaviours import dials as behaviours_dials
from sas_jax.data.collection.episode import write_part
from sas_jax.envs.make import make as make_env
from sas_jax.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]
TASK = "PointCircle1"  # the quickest: 500 steps, hardly any contacts
PLAN = collect.Plan(TASK, episodes=8, seed=5)


def command(out, *flags):
    arguments = [f"--task={TASK}", "--episodes=8", "--seed=5", f"--out={out}", *flags]
    return [sys.executable, "-m", "experiments.collect", *arguments]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The planned file, recorded in this process without any worker."""
    folder = tmp_path_factory.mktemp("reference")
    env = make_env(TASK)
    parts = folder / "a.hdf5.parts"
    collect._claim(parts, PLAN)
    for episode in range(PLAN.episodes):
        write_part(parts, episode, collect.record(env, PLAN, episode))
    seen = []
    collect.collect(PLAN, folder / "a.hdf5", progress=lambda *done: seen.append(done))
    assert seen == [(8, 8)]  # all parts were there
    return folder / "a.hdf5"


def test_file_holds_episodes_and_their_dials(reference):
    data = dsrl.load(reference)
    assert data.task == TASK and data.num_episodes == 8
    np.testing.assert_array_equal(data.lengths, np.full(8, 500))
    columns = dsrl.read_columns(reference)
    expected = ["budget", "clearance", "gain", "noise", "risk", "seed", "speed"]
    assert sorted(columns) == expected
    for e in range(8):
        dials = behaviours_dials.sample(TASK, 5, e)
        assert columns["risk"][e] == dials.risk and columns["noise"][e] == dials.noise
        assert columns["seed"][e] == behaviours_dials.environment_seed(5, e)
    with h5py.File(reference) as file:
        assert file.attrs["collection_seed"] == 5
        assert "mujoco" in json.loads(file.attrs["simulator"])
        # What DSRL's readers ask of a file.
        assert file["observations"].dtype == np.float32
        assert file["timeouts"][499] and not file["terminals"][()].any()
        np.testing.assert_array_equal(
            file["next_observations"][:499], file["observations"][1:500]
        )


def test_recorded_actions_reproduce_the_episode(reference):
    data = dsrl.load(reference)
    env = make_env(TASK)
    observation = env.reset(behaviours_dials.environment_seed(5, 3))
    rows = slice(data.offsets[3], data.offsets[4])
    rewards, costs = [], []
    for action, expected in zip(
        data.actions[rows], data.observations[rows], strict=True
    ):
        np.testing.assert_array_equal(observation.astype(np.float32), expected)
        observation, reward, cost, *_ = env.step(action)
        rewards.append(np.float32(reward))
        costs.append(np.float32(cost))
    np.testing.assert_array_equal(rewards, data.rewards[rows])
    np.testing.assert_array_equal(costs, data.costs[rows])


@pytest.mark.slow
def test_a_changed_world_is_recorded_on_the_same_layouts(reference, tmp_path):
    plan = collect.Plan(TASK, episodes=1, seed=5, shift="delay:2, actuator:0.60")
    assert plan.shift == "actuator:0.6,delay:2"
    data = collect.collect(plan, tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert file.attrs["shift"] == plan.shift.encode()
    unchanged = dsrl.load(reference)
    moving = slice(12, None)  # what a Point at rest sees is the layout
    np.testing.assert_array_equal(
        data.observations[0, moving], unchanged.observations[0, moving]
    )
    rows = slice(0, 500)
    assert not np.array_equal(data.observations[rows], unchanged.observations[rows])
    # Slower: the same motor with 0.6 of its force.
    speed = np.abs(data.observations[:, 3:5]).max()
    assert speed < 0.8 * np.abs(unchanged.observations[rows, 3:5]).max()
    assert collect.collect(plan, tmp_path / "a.hdf5").fingerprint() == (
        data.fingerprint()
    )
    with pytest.raises(UserError, match="shift actuator:0.6,delay:2 where None is"):
        collect.collect(collect.Plan(TASK, episodes=1, seed=5), tmp_path / "a.hdf5")


@pytest.mark.slow
def test_both_worlds_show_the_same_motion_forwards(tmp_path, monkeypatch):
    """In half of the episodes actions have the other sign, and all is seen alike."""
    plan = collect.Plan(TASK, 2, 3, "two_worlds")
    other = collect.collect(plan, tmp_path / "a.hdf5", workers=1)
    gain = dsrl.read_columns(tmp_path / "a.hdf5")["gain"]
    assert set(gain) == {1.0, -1.0}
    env, draw = make_env(TASK), behaviours_dials.sample
    monkeypatch.setattr(
        behaviours_dials,
        "sample",
        lambda *args: dataclasses.replace(draw(*args), gain=1.0),
    )
    for episode, rows in enumerate(np.split(np.arange(other.num_steps), 2)):
        one = collect.record(env, plan, episode)
        np.testing.assert_array_equal(
            one["observations"][:-1], other.observations[rows]
        )
        np.testing.assert_array_equal(one["rewards"], other.rewards[rows])
        actions = gain[episode] * other.actions[rows]
        np.testing.assert_array_equal(one["actions"], actions)
        # Five steps tell the world, mostly.
        thrust = np.convolve(actions[:, 0], np.ones(5), "valid")
        assert (thrust > 0).mean() > 0.8


def children(pid):
    """Processes below `pid` (Linux)."""
    tasks = pathlib.Path(f"/proc/{pid}/task")
    direct = [int(p) for t in tasks.glob("*/children") for p in t.read_text().split()]
    return [*direct, *(p for child in direct for p in children(child))]


def is_running(pid):
    try:
        return (
            pathlib.Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]
            != "Z"
        )
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_killed_runs_resume_to_the_same_bytes(reference, tmp_path):
    """Two workers, kill -9 on the way, then one worker: the file is the reference."""
    out = tmp_path / "b.hdf5"
    process = subprocess.Popen(
        command(out, "--workers=2"), cwd=ROOT, stderr=subprocess.DEVNULL
    )
    parts = tmp_path / "b.hdf5.parts"
    deadline = time.monotonic() + 120
    while len(list(parts.glob("episode_*.npz"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(map(is_running, workers)):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.1)
    assert workers and not out.exists()
    there = sorted(parts.glob("episode_*.npz"))
    there[0].write_bytes(there[0].read_bytes()[:1000])  # as after a power cut
    done = subprocess.run(
        command(out, "--workers=1"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.read_bytes() == reference.read_bytes()
    assert os.listdir(tmp_path) == ["b.hdf5"]
    assert "PointCircle1: 8 episodes, 4000 steps" in done.stdout
    assert "DSRL min .. max" in done.stdout


def test_more_episodes_go_on_from_the_same_parts(reference, tmp_path):
    """Parts do not depend on how many were asked for."""
    parts = tmp_path / "c.hdf5.parts"
    collect._claim(parts, PLAN)
    env = make_env(TASK)
    for episode in (1, 0):
        write_part(parts, episode, collect.record(env, PLAN, episode))
    short = collect.Plan(TASK, episodes=2, seed=5)
    data = collect.collect(short, tmp_path / "c.hdf5")
    assert data.fingerprint() == dsrl.load(reference).select([0, 1]).fingerprint()


def test_home_folders_are_expanded(reference, monkeypatch):
    monkeypatch.setenv("HOME", str(reference.parent))
    data = collect.collect(PLAN, f"~/{reference.name}")
    assert data.fingerprint() == dsrl.load(reference).fingerprint()


def test_a_finished_recording_is_read_and_left_alone(reference):
    before = reference.stat()
    data = collect.collect(PLAN, reference)
    assert data.fingerprint() == dsrl.load(reference).fingerprint()
    assert reference.stat() == before
    assert not reference.with_name("a.hdf5.parts").exists()


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"episodes": 7}, "episodes 8 where 7 is asked for"),
        ({"seed": 6}, "seed 5 where 6 is asked for"),
        ({"task": "PointCircle2"}, "task PointCircle1 where PointCircle2 is asked for"),
        ({"mixture": "graded"}, "mixture None where graded is asked for"),
        ({"shift": "mass:2"}, "shift None where mass:2 is asked for"),
    ],
)
def test_another_recording_is_not_overwritten(reference, other, named):
    plan = collect.Plan(**{"task": TASK, "episodes": 8, "seed": 5, **other})
    before = reference.stat()
    with pytest.raises(UserError, match=f"is not this recording .{named}."):
        collect.collect(plan, reference)
    assert reference.stat() == before


def test_foreign_file_is_not_overwritten(tmp_path):
    path = tmp_path / "notes.hdf5"
    path.write_text("not HDF5")
    with pytest.raises(UserError, match="not an HDF5 file"):
        collect.collect(PLAN, path)
    assert path.read_text() == "not HDF5"


def test_refusals(reference, tmp_path):
    parts = tmp_path / "a.hdf5.parts"
    collect._claim(parts, PLAN)
    other = collect.Plan(TASK, episodes=8, seed=6)
    with pytest.raises(UserError, match="another recording .seed 5 where 6 is"):
        collect.collect(other, tmp_path / "a.hdf5")
    (parts / "recording.json").write_text("{")
    with pytest.raises(UserError, match="unreadable"):
        collect.collect(PLAN, tmp_path / "a.hdf5")
    with pytest.raises(UserError, match="gs://b/a.hdf5: expected a path of this"):
        collect.collect(PLAN, "gs://b/a.hdf5")
    with pytest.raises(UserError, match="workers 0"):
        collect.collect(PLAN, tmp_path / "b.hdf5", workers=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*file/b.hdf5.parts"):
        collect.collect(PLAN, tmp_path / "file/b.hdf5")


@pytest.mark.slow
def test_a_script_needs_no_main_guard(reference, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from sas_jax.data import collect\n"
        f"plan = collect.Plan({TASK!r}, episodes=8, seed=5)\n"
        "collect.collect(plan, 'out.hdf5', workers=2)\n"
    )
    subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert (tmp_path / "out.hdf5").read_bytes() == reference.read_bytes()


@pytest.mark.slow
def test_a_worker_that_is_killed_is_named_as_that(reference, tmp_path):
    def is_worker(pid):
        """Not a child that an earlier test of this process has left behind."""
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        return b"collection/worker.py" in words

    def kill(done, total):
        if done == 1:
            workers = [pid for pid in children(os.getpid()) if is_worker(pid)]
            os.kill(workers[0], signal.SIGKILL)

    with pytest.raises(
        UserError, match=r"was killed from outside \(SIGKILL\)"
    ) as error:
        collect.collect(PLAN, tmp_path / "a.hdf5", workers=1, progress=kill)
    assert "\n" not in str(error.value)
    assert not any(is_worker(pid) for pid in children(os.getpid()))
    collect.collect(PLAN, tmp_path / "a.hdf5", workers=2)
    assert (tmp_path / "a.hdf5").read_bytes() == reference.read_bytes()


@pytest.mark.slow
def test_a_missing_package_is_named(tmp_path, monkeypatch):
    """In the workers, which import it; and where its version is asked for."""
    (tmp_path / "mujoco.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'mujoco'\")"
    )
    done = subprocess.run(
        command(tmp_path / "x.hdf5", "--workers=2"),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "error: safety-gymnasium cannot be imported (No module named 'mujoco')" in (
        done.stderr
    )

    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(UserError, match="safety-gymnasium is not installed; expected"):
        collect.collect(PLAN, tmp_path / "y.hdf5")


def test_ctrl_c_is_one_line_and_keeps_what_is_done(tmp_path):
    out = tmp_path / "a.hdf5"
    # More episodes than can be done before the first one is noticed.
    process = subprocess.Popen(
        command(out, "--workers=2", "--episodes=1000"),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # What a shell runs in the background ignores Ctrl-C, and hands that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    parts, deadline = tmp_path / "a.hdf5.parts", time.monotonic() + 120
    while not list(parts.glob("episode_*.npz")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    workers = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: workers get it, too
    try:
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and workers
    lines = stderr.replace("\r", "\n").splitlines()
    said = [line for line in lines if line and not line.startswith("collect ")]
    assert said == ["interrupted; run the same command again to resume"]
    assert not any(map(is_running, workers))
    assert list(parts.glob("episode_*.npz")) and not out.exists()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"task": "PointGaol1"}, "did you mean 'PointGoal1'"),
        ({"task": "AntVelocity"}, "no scripted behaviour"),
        ({"episodes": 0}, "episodes 0: expected at least 1"),
        ({"seed": -1}, "seed -1: expected"),
        ({"mixture": "grated"}, "did you mean 'graded'"),
        ({"shift": "mess:2"}, "did you mean 'mass'"),
        ({"shift": "obs_noise:0.1"}, "expected obs_std of shape"),
        ({"shift": "actuator:2", "mixture": "two_worlds"}, "has actuators of its own"),
        ({"task": "PointPush1", "mixture": "budgeted"}, "for Goal and Button tasks"),
    ],
)
def test_plans_that_make_no_sense(kwargs, message):
    with pytest.raises(UserError, match=message):
        collect.Plan(**{"task": TASK, "episodes": 1, "seed": 0, **kwargs})


def test_bad_flags_are_one_line(tmp_path):
    done = subprocess.run(
        [*command(tmp_path / "x.hdf5"), "--workers=0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "error: workers 0: expected at least 1" in done.stderr
    assert "Traceback" not in done.stderr
