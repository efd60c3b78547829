"""--help, --config, --set and --list_settings, as a user types them."""

import json
import re
import sys

import pytest
from absl import flags

from experiments import settings_flag
from sas_jax import learners, setting_names
from sas_jax.config import to_dict
from sas_jax.errors import UserError
from tests.helpers.entry_points import ROOT, run, succeeds

NAMES = sorted(
    path.stem
    for path in (ROOT / "experiments").glob("*.py")
    if "cli.answer_help" in path.read_text() and path.stem != "cli"
)


@pytest.fixture
def given(monkeypatch):
    """Sets the flags' values for one test."""

    def give(config="", texts=()):
        monkeypatch.setattr(flags.FLAGS["config"], "value", config)
        monkeypatch.setattr(flags.FLAGS["set"], "value", list(texts))

    if not flags.FLAGS.is_parsed():
        monkeypatch.setattr(sys, "argv", ["test"])
        flags.FLAGS(["test"])
    return give


def test_every_command_answers_help():
    from sas_jax.command import COMMANDS

    assert {*COMMANDS} - {"demo"} == {*NAMES}


@pytest.mark.parametrize("name", ["collect", "train", "demo"])
def test_help_ends_well_and_imports_nothing_heavy(name):
    script = (
        "import runpy, sys; sys.argv = ['x', '--help']\n"
        "try:\n"
        f"    runpy.run_module('experiments.{name}', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    print('jax' in sys.modules, 'numpy' in sys.modules, end.code)\n"
    )
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    *text, last = done.stdout.splitlines()
    assert last == "False False 0", done.stderr[-1000:]
    assert any(line.startswith("  --import:") for line in text)
    if name == "train":
        assert any(line.startswith("  --config:") for line in text)


def test_settings_of_a_file_come_before_those_of_flags(given, tmp_path):
    config = learners.default_config("PointGoal1")
    toml = tmp_path / "mine.toml"
    toml.write_text(
        "train.num_steps = 7\n[model]\npolicy_hidden = [32, 16]\n"
        "[model.decoder]\ndepth = 2\nwidth = 64\n"
    )
    given(str(toml), ["model.decoder.width=32"])
    changed = settings_flag.apply(config)
    assert changed.train.num_steps == 7
    assert changed.model.policy_hidden == (32, 16)
    decoder = changed.model.decoder
    assert (decoder.depth, decoder.width) == (2, 32)
    said = settings_flag.changes(changed, config).splitlines()
    assert "  train.num_steps=7" in said and len(said) == 4
    # What a run has saved is such a file.
    saved = tmp_path / "config.json"
    saved.write_text(json.dumps(to_dict(changed)))
    given(str(saved))
    assert settings_flag.apply(config) == changed


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.toml", "[model", "is no TOML"),
        ("a.json", "{", "is no JSON"),
        ("a.json", "[1]", "expected a group"),
        ("a.toml", "[model]\nnum_layers = 2", "did you mean 'model.decoder.depth'"),
        ("a.toml", "[train]\nnum_steps = 'x'", "expected int, got 'x'"),
        ("none.toml", None, "cannot be read"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(given, tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    given(str(tmp_path / name))
    with pytest.raises(UserError, match=message) as caught:
        settings_flag.apply(learners.default_config("PointGoal1"))
    assert "\n" not in str(caught.value)


def test_only_some_settings_can_change_after_training(given):
    config = learners.default_config("PointGoal1")
    given("", ["sas.horizon=9", "train.num_steps=3"])
    with pytest.raises(UserError, match=r"num_steps=3: only sas.\* can change"):
        settings_flag.apply(config, only="sas.")
    given("", ["sas.horizon=9"])
    assert settings_flag.apply(config, only="sas.").sas.horizon == 9


@pytest.mark.parametrize(
    "asked, found",
    [
        ("num_layers", "model.decoder.depth"),
        ("model.num_layers", "model.decoder.depth"),
        ("lr", "train.learning_rate"),
        ("horizon", "sas.horizon"),
        ("train.num_stepz", "num_steps"),
    ],
)
def test_names_from_elsewhere_are_found(asked, found):
    values = to_dict(learners.default_config("PointGoal1"))
    group = values["train"] if asked.startswith("train.") else values
    assert repr(found) in setting_names.hint(asked, values, group)


def test_settings_are_listed_as_flags_take_them():
    out = succeeds("train", "--list_settings", "--set=model.decoder.depth=2")
    lines = out.splitlines()
    assert "model.decoder.depth=2" in lines and "algo=dt" in lines
    assert all(re.fullmatch(r"[a-z0-9_.]+=.*", line) for line in lines)
    done = run("train", "--list_settings", "--algo=dtt")
    assert done.returncode == 2 and "did you mean 'dt'" in done.stderr
