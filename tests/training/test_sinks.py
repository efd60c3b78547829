"""Sinks of curves: imported when asked for, told in one line where they are absent."""

import sys
import types

import pytest

from sas_jax.errors import UserError
from sas_jax.training import sinks
from sas_jax.training.curves import Curve

ROWS = [
    {"step": 5, "seed": 0, "loss": 1.0, "val_loss": 2.0},
    {"step": 5, "seed": 1, "loss": 3.0, "val_loss": 4.0},
]


@pytest.mark.parametrize(
    "name, package", [("tensorboard", "tensorboardX"), ("wandb",) * 2]
)
def test_a_missing_package_is_one_line(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{package} is not installed.*\[{name}\]"):
        sinks.open_sinks([name], tmp_path, {})


def test_an_unknown_sink_is_named(tmp_path):
    with pytest.raises(UserError, match="unknown 'wandbb'; did you mean 'wandb'"):
        sinks.open_sinks(["wandbb"], tmp_path, {})


def test_wandb_gets_every_lane_of_a_step_at_once(tmp_path, monkeypatch):
    logged, started = [], []

    class Run:
        def log(self, values, step):
            logged.append((step, values))

        def finish(self):
            logged.append("finished")

    def init(**settings):
        started.append(settings)
        return Run()

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    opened = sinks.open_sinks(["wandb", "wandb"], tmp_path / "run", {"algo": "dt"})
    assert len(opened) == 1
    curve = Curve(tmp_path / "metrics.csv", 0, sinks=opened)
    curve.add(ROWS)
    curve.close()
    assert logged == [
        (
            5,
            {
                "seed_0/loss": 1.0,
                "seed_0/val_loss": 2.0,
                "seed_1/loss": 3.0,
                "seed_1/val_loss": 4.0,
            },
        ),
        "finished",
    ]
    # The same folder is the same run, whoever starts it.
    sinks.open_sinks(["wandb"], tmp_path / "run", {})
    sinks.open_sinks(["wandb"], tmp_path / "other", {})
    ids = [settings["id"] for settings in started]
    assert ids[0] == ids[1] != ids[2] and started[0]["config"] == {"algo": "dt"}


def test_wandb_that_cannot_start_is_one_line(tmp_path, monkeypatch):
    def init(**settings):
        raise RuntimeError("no\nnetwork")

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    with pytest.raises(UserError, match="wandb: cannot start a run .no network."):
        sinks.open_sinks(["wandb"], tmp_path, {})
