"""A policy in one file: it loads as its folder does, and damage is one line."""

import io
import json
import zipfile

import jax
import numpy as np
import pytest

from sas_jax import checkpoint, packed
from sas_jax.errors import UserError
from sas_jax.evaluation.evaluate import task_of
from tests.helpers.model_fixtures import make_spec
from tests.package.test_checkpoint import CONFIG, make_state


@pytest.fixture(scope="module")
def loaded():
    return checkpoint.Checkpoint(
        CONFIG, make_spec(), make_state(make_spec()), 12, {"cost": [0.5]}, {}
    )


def test_what_acting_needs_comes_back_to_the_bit(loaded, tmp_path):
    path = packed.pack(loaded, tmp_path / "a.zip")
    again = checkpoint.load(path)
    assert (again.config, again.step, again.card) == (CONFIG, 12, {"cost": [0.5]})
    assert again.spec.to_json() == loaded.spec.to_json()
    for name in ("params", "extra"):
        pair = getattr(again.state, name), getattr(loaded.state, name)
        jax.tree.map(np.testing.assert_array_equal, *pair)
    assert again.state.opt_state is None
    # One policy is one file, whenever it is written; and from the file again.
    other = packed.pack(again, tmp_path / "b.zip")
    assert other.read_bytes() == path.read_bytes()


def rewritten(path, change):
    """The archive with its members changed by `change(dict)`."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)


def another_schema(members):
    meta = json.loads(members["meta.json"]) | {"schema": 99}
    members["meta.json"] = json.dumps(meta).encode()


def of_arrays(change):
    """The same file with other arrays: `change` is shown name -> array."""

    def rewrite(members):
        with np.load(io.BytesIO(members["state.npz"])) as file:
            arrays = dict(file)
        change(arrays)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        members["state.npz"] = buffer.getvalue()

    return rewrite


def fewer_lanes(members):
    meta = json.loads(members["meta.json"])
    meta["config"]["train"]["num_seeds"] = 3
    members["meta.json"] = json.dumps(meta).encode()


@pytest.mark.parametrize(
    "change, message",
    [
        (another_schema, "has schema 99; this version reads"),
        (fewer_lanes, "networks of other sizes"),
        (of_arrays(lambda x: x.pop(min(x))), "damaged: '[a-z_/0-9A-Z]+' is missing"),
        (of_arrays(lambda x: x.update(y=x[min(x)])), "'y' is no part of its networks"),
        (lambda members: members.pop("state.npz"), "partial or damaged"),
        (lambda members: members.update({"state.npz": b"x"}), "partial or damaged"),
    ],
)
def test_a_changed_file_is_one_line(loaded, tmp_path, change, message):
    path = packed.pack(loaded, tmp_path / "a.zip")
    rewritten(path, change)
    with pytest.raises(UserError, match=message) as error:
        checkpoint.load(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_a_file_has_no_other_step(loaded, tmp_path):
    path = packed.pack(loaded, tmp_path / "a.zip")
    assert checkpoint.load(path, loaded.step).step == loaded.step
    with pytest.raises(UserError, match=f"no step {loaded.step + 1}; expected"):
        checkpoint.load(path, loaded.step + 1)


def test_half_a_file_is_one_line(loaded, tmp_path):
    path = packed.pack(loaded, tmp_path / "a.zip")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="partial or damaged"):
        checkpoint.load(path)


@pytest.mark.slow
def test_the_policy_that_comes_with_the_package_is_of_its_task():
    shipped = checkpoint.load(packed.SHIPPED)
    task = task_of(shipped, 0)
    assert (task.name, shipped.config.algo) == ("PointGoal1", "dt")
    assert packed.SHIPPED.stat().st_size < 4 * 2**20
