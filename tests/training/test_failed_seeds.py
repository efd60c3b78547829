"""Seeds that fail, seeds that stop early, and the steps that are kept."""

import csv
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import inspect
from sas_jax import checkpoint
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig, TrainConfig
from sas_jax.learners.bc import BCConfig
from sas_jax.training import fit as training_fit
from sas_jax.training.failed_seeds import Tracker
from tests.helpers.model_fixtures import make_episodes

LENGTHS = (8,) * 4 + (14, 14)
SETTINGS = {
    "batch_rows": 4,
    "row_length": 1,
    "warmup": 0,
    "learning_rate": 1e-2,
    "num_steps": 20,
    "chunk": 2,
    "checkpoint_every": 4,
    "keep_checkpoints": 1,
    "num_seeds": 2,
    "seed": 3,
}


def config_of(**settings):
    """The loop knows no algorithm: one that compiles in little time will do."""
    return ExperimentConfig(
        task="PointGoal1",
        algo="bc",
        model=BCConfig(hidden=(8,)),
        train=TrainConfig(**SETTINGS | settings),
    )


def steps_of(workdir):
    return [step for step, _ in checkpoint.list_steps(workdir)]


def leaves(state):
    state = state.replace(key=jax.random.key_data(state.key))
    return [np.asarray(x) for x in jax.tree.leaves(state)]


# Falls for seed 0 until step 8. For seed 1 until step 4; its low at 16 comes too late.
FALLING = {4: (3.0, 0.5), 8: (2.0, 1.0), 12: (2.5, 1.0), 16: (2.0, 0.1), 20: (1.0, 0.0)}


def test_every_seed_has_a_patience_of_its_own():
    tracker = Tracker(config_of(stop_on="val_loss", stop_patience=2).train)
    for step, values in FALLING.items():
        tracker.note_validation({"loss": np.array(values)}, step)
        # Through JSON and back at every step, as a resumed run does.
        config = config_of(stop_on="val_loss", stop_patience=2).train
        tracker = Tracker(config, tracker.to_json())
        if not tracker.learning().any():
            break
    assert step == 16
    assert tracker.best_step.tolist() == [8, 4]
    assert tracker.best.tolist() == [2.0, 0.5]


def test_a_seed_out_of_patience_stays_at_its_best():
    tracker = Tracker(config_of(stop_on="-val_transition_elbo", stop_patience=1).train)
    for step, values in {4: (1.0, 1.0), 8: (2.0, 0.5), 12: (3.0, 9.0)}.items():
        tracker.note_validation({"transition_elbo": np.array(values)}, step)
    assert tracker.best_step.tolist() == [12, 4]
    assert tracker.best.tolist() == [-3.0, -1.0]
    assert tracker.learning().tolist() == [True, False]


def test_a_value_that_is_no_number_is_no_best():
    tracker = Tracker(config_of(stop_on="val_loss").train)
    improved = tracker.note_validation({"loss": np.array([np.nan, 1.0])}, 4)
    assert improved.tolist() == [False, True]


def test_failures_are_noted_once():
    tracker = Tracker(config_of().train)
    assert tracker.note_steps(np.array([4, 4]), 4) == []
    assert tracker.note_steps(np.array([8, 5]), 8) == [1]
    assert tracker.note_steps(np.array([12, 5]), 12) == []
    assert tracker.failed == {1: 5} and tracker.first_good() == 0
    assert Tracker(config_of().train, tracker.to_json()).failed == {1: 5}


def patched(patch, *, poison=None, values=None, kill_at=None):
    """Spoils a seed before a chunk, prescribes validation losses, or dies."""
    make_chunk, make_validate = (
        training_fit.make_train_chunk,
        training_fit.make_validate,
    )

    def chunk_of(*args):
        chunk = make_chunk(*args)

        def run(states, data):
            step = int(states.step.max())
            if step == kill_at:
                raise KeyboardInterrupt
            if poison and step == poison[1]:
                # Finite, and large enough to overflow in the next step.
                params = jax.tree.map(
                    lambda x: x.at[poison[0]].set(poison[2]), states.params
                )
                states = states.replace(params=params)
            return chunk(states, data)

        return run

    def validate_of(*args):
        validate = make_validate(*args)

        def run(states, data):
            out = validate(states, data)
            if values:
                out["loss"] = jnp.asarray(values[int(states.step.max())], jnp.float32)
            return out

        if not values:
            return validate
        return lambda states, data: (
            run(states, data)
            if not isinstance(states.step, jax.core.Tracer)
            else validate(states, data)
        )

    patch.setattr(training_fit, "make_train_chunk", chunk_of)
    patch.setattr(training_fit, "make_validate", validate_of)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Stops at step 16; the seeds' best states are those of steps 8 and 4."""
    workdir = tmp_path_factory.mktemp("stopped")
    config = config_of(stop_on="val_loss", stop_patience=2, keep_fractions=(0.1, 0.45))
    with pytest.MonkeyPatch.context() as patch:
        patched(patch, values=FALLING | {2: (0.0, 0.0)})
        result = training_fit.fit(config, make_episodes(LENGTHS), workdir)
    return config, workdir, result


def test_a_stopped_run_holds_the_best_states(stopped):
    _, workdir, result = stopped
    assert result.step == 16
    assert np.asarray(result.state.step).tolist() == [8, 4]
    assert result.run["best_step"] == [8, 4] and result.run["is_finished"]


def test_fractions_are_kept_at_whole_chunks(stopped):
    """0.45 of 20 steps is 9: 8 is nearest (round half to even of 4.5 chunks)."""
    config, workdir, _ = stopped
    assert config.train.kept_steps == (2, 8)
    assert steps_of(workdir) == [2, 8, 16]
    assert checkpoint.load(workdir, 2).state.step.tolist() == [2, 2]
    lines = inspect.list_checkpoints(str(workdir)).splitlines()
    assert lines[0].startswith(
        "step 2: 10.0% of 20, kept for good; held-out loss 0.000"
    )
    assert "kept" not in lines[2] and "(seed 4)" in lines[2]


@pytest.mark.slow
def test_stopping_resumes_exactly(stopped, tmp_path):
    """Killed at step 14, after the checkpoint of step 12, with its best states."""
    config, _, result = stopped
    values = FALLING | {2: (0.0, 0.0)}
    with pytest.MonkeyPatch.context() as patch:
        patched(patch, values=values, kill_at=14)
        with pytest.raises(KeyboardInterrupt):
            training_fit.fit(config, make_episodes(LENGTHS), tmp_path)
    assert steps_of(tmp_path)[-1] == 12
    with pytest.MonkeyPatch.context() as patch:
        patched(patch, values=values)
        again = training_fit.fit(config, make_episodes(LENGTHS), tmp_path)
    assert again.step == 16 and again.run == result.run
    for x, y in zip(leaves(again.state), leaves(result.state), strict=True):
        np.testing.assert_array_equal(x, y)

    def forbidden(*args):
        raise AssertionError("a stopped run is not trained again")

    training_fit.fit(config, make_episodes(LENGTHS), tmp_path, progress=forbidden)


def test_a_metric_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UserError, match="stop_on.*did you mean 'val_loss'"):
        training_fit.fit(config_of(stop_on="val_los"), make_episodes(LENGTHS), tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, training_fit.fit(
        config_of(tensorboard=True), make_episodes(LENGTHS), workdir
    )


@pytest.mark.slow
def test_a_seed_that_fails_leaves_the_others_alone(whole, tmp_path):
    """Seed 4's parameters become huge before step 6; seed 3 ends with the same bits."""
    with pytest.MonkeyPatch.context() as patch:
        patched(patch, poison=(1, 6, 3e38))
        with pytest.warns(
            training_fit.SeedWarning, match="seed 4 is not finite at step 7"
        ):
            result = training_fit.fit(config_of(), make_episodes(LENGTHS), tmp_path)
    assert result.run["failed"] == {"1": 6}
    assert np.asarray(result.state.step).tolist() == [20, 6]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(result.state.params))
    for x, y in zip(leaves(result.state), leaves(whole[1].state), strict=True):
        np.testing.assert_array_equal(x[0], y[0])
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = [(int(r["step"]), r["seed"]) for r in csv.DictReader(file)]
    assert rows == [(4, "3"), (4, "4")] + [(s, "3") for s in (8, 12, 16, 20)]


def test_when_all_seeds_fail_each_is_named(whole, tmp_path):
    workdir = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patched(patch, poison=(slice(None), 6, 3e38))
        with pytest.raises(UserError) as error:
            training_fit.fit(config_of(), make_episodes(LENGTHS), workdir)
    for part in ("seed 3 is not finite at step 7", "seed 4 is not finite at step 7"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    loaded = checkpoint.load(workdir)
    assert loaded.step == 4
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(loaded.state.params))


def test_curves_of_several_seeds(whole):
    """CSV and TensorBoard have both seeds, training and held out."""
    workdir, _ = whole
    with open(workdir / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(r["step"]), r["seed"]) for r in rows] == [
        (step, seed) for step in range(4, 21, 4) for seed in ("3", "4")
    ]
    assert rows[0]["val_loss"] != rows[1]["val_loss"]
    events = b"".join(p.read_bytes() for p in (workdir / "tensorboard").iterdir())
    for tag in (b"seed_3/val_loss", b"seed_4/val_loss", b"seed_4/gradient_norm"):
        assert tag in events


def test_a_run_from_before_new_settings_goes_on(whole, tmp_path):
    """Its stored settings lack them; the number of devices may change."""
    workdir = tmp_path / "old"
    shutil.copytree(whole[0], workdir)
    path = workdir / "checkpoints" / "20" / "meta" / "metadata"
    text = path.read_text()
    for name in ('"devices":1,', '"accumulate":1,'):
        stripped = text.replace(name, "").replace(name.replace(":", ": ") + " ", "")
        assert stripped != text
        text = stripped
    path.write_text(text)
    again = training_fit.fit(
        config_of(tensorboard=True), make_episodes(LENGTHS), workdir
    )
    assert again.step == 20 and again.config.train.accumulate == 1
