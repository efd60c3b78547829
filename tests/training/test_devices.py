"""Training on several devices and hosts: the same losses as on one."""

import csv
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from sas_jax import checkpoint
from sas_jax.errors import UserError
from sas_jax.training import devices as training_devices
from sas_jax.training import fit as training_fit
from tests.helpers import xla_flags
from tests.helpers.model_fixtures import make_episodes
from tests.helpers.sharded_run import LENGTHS, config_of

ROOT = Path(__file__).resolve().parents[2]


def start(workdir, devices, *hosts, local):
    """A run over `devices` (0: all), in a process that sees `local` of its own."""
    flags = xla_flags.with_devices(os.environ.get("XLA_FLAGS", ""), local)
    command = [
        sys.executable,
        "-m",
        "tests.helpers.sharded_run",
        str(workdir),
        str(devices),
    ]
    return subprocess.Popen(
        [*command, *map(str, hosts)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": flags},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes):
    for process in processes:
        _, error = process.communicate(timeout=900)
        assert process.returncode == 0, error


def losses_of(workdir):
    """`[points, names]` of metrics.csv, and the names; time is left out."""
    with open(workdir / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [n for n in rows[0] if n not in ("seed", "steps_per_second")]
    return np.array([[float(row[n]) for n in names] for row in rows]), names


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run on one device."""
    workdir = tmp_path_factory.mktemp("alone")
    training_fit.fit(config_of(1), make_episodes(LENGTHS), workdir)
    return workdir


def assert_same_losses(workdir, alone):
    found, names = losses_of(workdir)
    expected, same = losses_of(alone)
    assert names == same and "val_loss" in names and len(found) == 4
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    # A checkpoint of many devices loads on one.
    left, right = checkpoint.load(workdir), checkpoint.load(alone)
    for x, y in zip(
        jax.tree.leaves(left.state.params),
        jax.tree.leaves(right.state.params),
        strict=True,
    ):
        np.testing.assert_allclose(x, y, atol=1e-4)


@pytest.mark.slow
def test_eight_devices_have_the_losses_of_one(alone, tmp_path):
    finish(start(tmp_path, 8, local=8))
    assert_same_losses(tmp_path, alone)


@pytest.mark.slow
def test_two_hosts_have_the_losses_of_one(alone, tmp_path):
    """Two processes of two devices each, one folder; then the run is already done."""
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        finish(*(start(tmp_path, 0, address, 2, i, local=2) for i in range(2)))
        assert_same_losses(tmp_path, alone)
        assert checkpoint.load(tmp_path).card == {"step": 12, "episodes": 2}


def test_devices_that_are_not_there_are_named():
    with pytest.raises(UserError, match="train.devices 64: there are 1"):
        training_devices.make_mesh(64, rows=64)
    assert training_devices.make_mesh(0, rows=3) is None


def test_rows_that_cannot_be_dealt_out_are_named(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [jax.local_devices()[0]] * 4)
    with pytest.raises(UserError, match="batch_rows 6: .* multiple .* devices, 4$"):
        training_devices.make_mesh(0, rows=6)
    with pytest.raises(UserError, match="batch_rows 12: .* 4 x train.accumulate 2"):
        training_devices.make_mesh(4, rows=12, accumulate=2)


def test_some_devices_of_several_hosts_are_refused(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [jax.local_devices()[0]] * 4)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="devices 2: with 2 hosts expected 0"):
        training_devices.make_mesh(2, rows=8)


def test_hosts_that_are_half_named():
    with pytest.raises(UserError, match="coordinator_address, num_processes and proc"):
        training_devices.start_hosts("localhost:1")
    with pytest.raises(UserError, match="process_id 2; expected 0 to 1"):
        training_devices.start_hosts("localhost:1", 2, 2)
