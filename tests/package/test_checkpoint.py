"""Checkpoints: a round trip, and one line for whatever a folder can be instead."""

import dataclasses
import gc
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import checkpoint
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners import sequence
from sas_jax.types import Rows, TimeStep
from tests.helpers import xla_flags
from tests.helpers.model_fixtures import (
    make_config,
    make_episodes,
    make_spec,
    make_variables,
)

# Said of the other reads of a restore that has failed.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)
ROOT = Path(__file__).resolve().parents[2]
CONFIG = make_config(
    decoder={"depth": 1}, train={"num_seeds": 2, "keep_checkpoints": 2}
)


def make_state(spec, seed=0):
    """A state of two training seeds, filled with numbers without compiling anything."""
    rng = np.random.default_rng([7, seed])

    def fill(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(np.array([[0, seed], [1, seed]], np.uint32))
        return (10 * rng.normal(size=x.shape)).astype(x.dtype)

    state = jax.tree.map(fill, checkpoint.abstract_state(CONFIG, spec))
    params = [make_variables(CONFIG, spec, seed=s)["params"] for s in (seed, seed + 1)]
    variances = make_variables(CONFIG, spec)["variances"]
    state = state.replace(
        params=jax.tree.map(lambda *x: np.stack(x), *params),
        extra=jax.tree.map(lambda x: np.stack([x, 2 * x]), variances),
    )
    return jax.tree.map(jnp.asarray, state)


def plain(state):
    return jax.tree.map(np.asarray, state.replace(key=jax.random.key_data(state.key)))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the last two of three checkpoints, and their states."""
    workdir = tmp_path_factory.mktemp("run")
    spec = make_spec()
    states = {step: make_state(spec, seed=step) for step in (4, 8, 12)}
    writer = checkpoint.Writer(workdir, CONFIG, spec)
    for step, state in states.items():
        card = {"cost": [0.5, float("nan")]} if step == 12 else None
        writer.save(step, state, card)
    writer.close()
    return workdir, spec, states


def assert_same_state(left, right):
    jax.tree.map(np.testing.assert_array_equal, plain(left), plain(right))


def test_round_trip(saved):
    """Everything comes back from the path alone, to the last bit."""
    workdir, spec, states = saved
    loaded = checkpoint.load(workdir)
    assert loaded.config == CONFIG and loaded.step == 12
    assert_same_state(loaded.state, states[12])
    for name, value in vars(spec).items():
        np.testing.assert_array_equal(getattr(loaded.spec, name), value, err_msg=name)
    assert loaded.card["cost"][0] == 0.5 and np.isnan(loaded.card["cost"][1])
    assert jnp.issubdtype(loaded.state.key.dtype, jax.dtypes.prng_key)


def test_older_steps_are_kept_as_configured(saved):
    workdir, _, states = saved
    assert_same_state(checkpoint.load(workdir, 8).state, states[8])
    assert checkpoint.load(workdir, 8).card is None
    with pytest.raises(UserError, match="no step 4; expected one of 8, 12"):
        checkpoint.load(workdir, 4)


@pytest.mark.slow
def test_a_loaded_policy_acts_as_the_saved_one(saved):
    workdir, spec, states = saved
    loaded = checkpoint.load(workdir)

    def first_action(config, spec, state):
        policy = sequence.make_policy(config, spec, variants=("none",))
        second = jax.tree.map(lambda x: np.asarray(x)[1], (state.params, state.extra))
        variables = dict(zip(("params", "variances"), second, strict=True))
        zeros = np.zeros(2, np.float32)
        rows = Rows(np.zeros(2, np.int32), zeros, np.arange(2))
        obs = np.random.default_rng(0).normal(size=(2, spec.obs_dim))
        ts = TimeStep(np.float32(obs), zeros, zeros, np.ones(2, bool))
        key = jax.random.key(0)

        @jax.jit
        def act(variables):
            carry = policy.initial_carry(variables, rows, key)
            return policy.act(variables, carry, ts, key)[0]

        return np.asarray(act(variables))

    expected = first_action(CONFIG, spec, states[12])
    found = first_action(loaded.config, loaded.spec, loaded.state)
    np.testing.assert_array_equal(found, expected)


def test_resuming_returns_the_last_state(saved, tmp_path):
    workdir, spec, states = saved
    abstract = checkpoint.abstract_state(CONFIG, spec)
    writer = checkpoint.Writer(workdir, CONFIG, spec)
    assert_same_state(writer.resume(abstract).state, states[12])
    writer.close()
    writer = checkpoint.Writer(tmp_path / "new" / "run", CONFIG, spec)
    assert writer.resume(abstract) is None
    writer.close()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"train": {"learning_rate": 1e-5}}, "another config.*train.learning_rate"),
        ({"model": {"latent_dim": 4}}, "another config.*model.latent_dim"),
        ({"data": 1}, "another spec.*first difference: "),
    ],
)
def test_another_run_in_the_folder_is_named(saved, change, message):
    workdir, spec, _ = saved
    config = CONFIG
    for group, values in change.items():
        if group == "data":
            spec = make_spec(make_episodes(seed=values))
        else:
            inner = dataclasses.replace(getattr(config, group), **values)
            config = dataclasses.replace(config, **{group: inner})
    writer = checkpoint.Writer(workdir, config, spec)
    with pytest.raises(UserError, match=message):
        writer.resume(checkpoint.abstract_state(config, spec))
    writer.close()


def test_folders_that_hold_nothing(tmp_path):
    with pytest.raises(UserError, match="no folder 'checkpoints'"):
        checkpoint.load(tmp_path / "absent")
    with pytest.raises(UserError, match="no folder 'checkpoints'"):
        checkpoint.load(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="no complete checkpoint"):
        checkpoint.load(tmp_path)
    assert not (tmp_path / "absent").exists()


_ON_SECOND_DEVICE = """
import sys
import jax
from sas_jax import checkpoint
from tests.helpers.model_fixtures import make_spec
from tests.package.test_checkpoint import CONFIG, make_state

assert len(jax.devices()) == 2
state = jax.device_put(make_state(make_spec()), jax.devices()[1])
writer = checkpoint.Writer(sys.argv[1], CONFIG, make_spec())
writer.save(4, state)
writer.close()
"""


@pytest.mark.slow
def test_a_state_saved_on_a_device_that_is_not_here_loads(tmp_path):
    """As one trained on a GPU does on a machine without: here, a second CPU device."""
    flags = xla_flags.with_devices(os.environ.get("XLA_FLAGS", ""), 2)
    subprocess.run(
        [sys.executable, "-c", _ON_SECOND_DEVICE, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": flags},
        cwd=ROOT,
        check=True,
    )
    assert_same_state(checkpoint.load(tmp_path).state, make_state(make_spec()))


def copy_of(saved, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(saved[0], workdir)
    return workdir


def test_an_interrupted_save_does_not_count(saved, tmp_path):
    """Orbax's temporary folder, left by a process that was killed while writing."""
    workdir = copy_of(saved, tmp_path)
    folder = workdir / "checkpoints"
    (folder / "12").rename(folder / "12.orbax-checkpoint-tmp-7")
    assert checkpoint.load(workdir).step == 8


@pytest.fixture
def collected():
    """Orbax leaves the other reads of a failed restore to the garbage collector.

    What was there before it need not look through: a second or two in a full suite.
    """
    gc.freeze()
    yield
    gc.collect()
    gc.unfreeze()


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize(
    "file, keeps_half",
    [
        ("data", False),
        ("data", True),
        ("state/manifest.ocdbt", False),
        ("state/_METADATA", True),
        ("meta/metadata", False),
        ("meta/metadata", True),
    ],
)
def test_missing_and_truncated_files_are_one_line(saved, tmp_path, file, keeps_half):
    workdir = copy_of(saved, tmp_path)
    step = workdir / "checkpoints" / "12"
    target = step / file
    if file == "data":
        files = [p for p in step.rglob("d/*") if p.is_file()]
        target = max(files, key=lambda p: p.stat().st_size)
    content = target.read_bytes()
    target.unlink()
    if keeps_half:
        target.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="partial or damaged") as error:
        checkpoint.load(workdir)
    assert "\n" not in str(error.value) and str(workdir) in str(error.value)


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize(
    "change, message",
    [
        (lambda meta: meta.update(schema=99), "has schema 99; this version reads"),
        (lambda meta: meta.pop("schema"), "partial or damaged"),
        (lambda meta: meta["config"].update(colour=1), "colour: no such setting"),
        (lambda meta: meta["spec"].pop("obs_std"), "obs_std"),
        (lambda meta: meta.pop("spec"), "partial or damaged"),
        (lambda meta: meta.update(config=[]), "partial or damaged"),
        (lambda meta: meta["config"]["train"].update(num_seeds=3), "other sizes"),
        (lambda meta: meta["config"]["model"].update(latent_dim=5), "other sizes"),
    ],
)
def test_another_schema_or_a_changed_meta_is_named(saved, tmp_path, change, message):
    workdir = copy_of(saved, tmp_path)
    path = workdir / "checkpoints" / "12" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    change(meta)
    path.write_text(json.dumps(meta))
    with pytest.raises(UserError, match=message) as error:
        checkpoint.load(workdir)
    assert "\n" not in str(error.value)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/run.*expected a folder"):
        checkpoint.Writer(tmp_path / "file" / "run", CONFIG, make_spec())


def test_the_meta_holds_plain_json(saved):
    """A reader without this package can tell what a checkpoint is."""
    meta = json.loads(
        (saved[0] / "checkpoints" / "12" / "meta" / "metadata").read_text()
    )
    assert meta["schema"] == checkpoint.SCHEMA
    assert meta["config"]["model"]["decoder"]["width"] == 16
    names = {f.name for f in dataclasses.fields(ExperimentConfig)}
    assert set(meta["config"]) == names
    assert meta["spec"]["obs_active"] == [True] * 4 + [False]


def test_a_folder_is_one_trainings(tmp_path):
    spec = make_spec()
    first = checkpoint.Writer(tmp_path, CONFIG, spec)
    with pytest.raises(UserError, match="training is going on there already"):
        checkpoint.Writer(tmp_path, CONFIG, spec)
    first.close()
    checkpoint.Writer(tmp_path, CONFIG, spec).close()


def test_a_reader_takes_the_next_one_when_its_checkpoint_is_rotated_out(
    saved, tmp_path, monkeypatch
):
    """What a training does meanwhile: save step 16, delete step 12."""
    workdir, meta = copy_of(saved, tmp_path), checkpoint._read_meta
    folder = workdir / "checkpoints"

    def rotating(path, step):
        if not (folder / "16").exists():
            shutil.copytree(folder / "8", folder / "16")
            shutil.rmtree(folder / "12")
        return meta(path, step)

    monkeypatch.setattr(checkpoint, "_read_meta", rotating)
    loaded = checkpoint.load(workdir)
    assert loaded.step == 16
    assert_same_state(loaded.state, saved[2][8])
    shutil.rmtree(folder / "16")
    shutil.copytree(folder / "8", folder / "12")
    assert [step for step, _ in checkpoint.list_steps(workdir)] == [8, 16]
    # One that was asked for by its number is missed, not called damaged.
    shutil.rmtree(folder / "16")
    shutil.copytree(folder / "8", folder / "12")
    with pytest.raises(UserError, match="has no step 12; expected one of 8, 16"):
        checkpoint.load(workdir, 12)


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        ValueError(
            'RESOURCE_EXHAUSTED: Failed writing: "/x/state/d/c37e": Failed to write '
            "18241 bytes to file 7: No space left on device [source locations=...]"
        ),
    ],
)
def test_a_full_disk_is_one_line(saved, tmp_path, monkeypatch, error):
    """The second kind is what Orbax raised on a full file system."""
    workdir, spec = copy_of(saved, tmp_path), saved[1]
    writer = checkpoint.Writer(workdir, CONFIG, spec)

    def full(*_, **__):
        raise error

    monkeypatch.setattr(writer._manager, "save", full)
    with pytest.raises(UserError) as raised:
        writer.save(16, saved[2][12])
    writer.close()
    said = str(raised.value)
    assert "step 16 not written (No space left on device); the earlier" in said
    assert checkpoint.load(workdir).step == 12


def test_a_card_is_added_to_a_checkpoint_that_is_there(saved, tmp_path):
    workdir, spec = copy_of(saved, tmp_path), saved[1]
    writer = checkpoint.Writer(workdir, CONFIG, spec)
    writer.add_card(8, {"cost": [0.25, float("nan")]})
    writer.close()
    loaded = checkpoint.load(workdir, 8)
    assert loaded.card["cost"][0] == 0.25 and np.isnan(loaded.card["cost"][1])
    assert_same_state(loaded.state, saved[2][8])
