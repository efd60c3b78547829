"""The training loop: exact resume after kill -9, seeds as an axis, diverging losses."""

import csv
import dataclasses
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import checkpoint, learners
from sas_jax.data import device_rows
from sas_jax.errors import UserError
from sas_jax.learners import longer, sequence
from sas_jax.training import fit as training_fit
from sas_jax.types import Learner, TrainState
from tests.helpers.model_fixtures import make_config, make_episodes, make_spec
from tests.helpers.victim import killed_at

ROOT = Path(__file__).resolve().parents[2]
CONFIG = make_config(
    decoder={"depth": 1},
    train={
        "num_steps": 80,
        "chunk": 10,
        "checkpoint_every": 20,
        "keep_checkpoints": 4,
        "learning_rate": 1e-2,
        "warmup": 5,
        "seed": 3,
    },
)
# Rows have ten steps: those of the first episodes end in padding.
LENGTHS = (8,) * 6 + (14, 14)


def values_of(state):
    """Leaves of a state as numpy, keys as their data."""

    def plain(x):
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    return jax.tree.map(plain, state)


def read_curve(workdir):
    with open(workdir / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


class Once:
    """A maker of a jitted function that makes it once: later runs trace nothing."""

    def __init__(self, make):
        self.make, self.made = make, None

    def __call__(self, *args):
        if self.made is None:
            self.made = self.make(*args)
        return self.made


PROGRAMS = {
    name: Once(getattr(training_fit, name))
    for name in ("make_train_chunk", "make_validate")
}


@pytest.fixture
def same_programs(whole_run, monkeypatch):
    """Trainings of CONFIG run in the programs of the whole run."""
    for name, once in PROGRAMS.items():
        monkeypatch.setattr(training_fit, name, once)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """An uninterrupted run: folder, result, progress calls, and calls for a card."""
    workdir = tmp_path_factory.mktemp("whole")
    traces, progress, cards = [], [], []
    dt = learners.get("dt")

    def counting(*args):
        learner = dt.make_learner(*args)

        def update(state, batch):
            traces.append(1)
            return learner.update(state, batch)

        return learner._replace(update=update)

    def make_card(config, spec, state, held_out):
        cards.append((config, spec, int(state.step), held_out.num_episodes))
        return {"colour": "blue", "level": float("nan")}

    with pytest.MonkeyPatch.context() as patch:
        counted = dataclasses.replace(dt, make_learner=counting)
        patch.setattr(learners, "get", lambda name: counted)
        for name, once in PROGRAMS.items():
            patch.setattr(training_fit, name, once)
        result = training_fit.fit(
            CONFIG,
            make_episodes(LENGTHS),
            workdir,
            make_card=make_card,
            progress=lambda *args: progress.append((*args, len(traces))),
        )
    return workdir, result, progress, cards


def test_every_chunk_is_reported_and_nothing_is_traced_again(whole_run):
    _, result, progress, _ = whole_run
    assert [p[0] for p in progress] == list(range(10, 81, 10))
    assert {p[1] for p in progress} == {80}
    assert all(np.isfinite(list(p[2].values())).all() for p in progress)
    assert progress[0][3] == progress[-1][3] >= 1
    assert result.step == int(result.state.step[0]) == 80


def test_training_overfits_a_handful_of_transitions(whole_run):
    """Every part of the loss has learnt something from 66 of them."""
    progress = whole_run[2]
    before, after = progress[0][2], progress[-1][2]
    assert after["loss"] < before["loss"] - 2
    assert after["action_nll"] < before["action_nll"] - 0.3
    assert after["transition_elbo"] > before["transition_elbo"] + 1
    assert after["return_mse"] < 0.7 * before["return_mse"]
    assert after["cost_bce"] < before["cost_bce"]


def test_the_curve_has_a_row_per_checkpoint(whole_run):
    rows = read_curve(whole_run[0])
    assert [int(r["step"]) for r in rows] == list(range(20, 81, 20))
    assert {r["seed"] for r in rows} == {"3"}
    for name in ("loss", "val_loss", "val_transition_elbo", "steps_per_second"):
        assert all(np.isfinite(float(r[name])) for r in rows), name
    # Last chunk's mean, as the progress told.
    assert float(rows[-1]["loss"]) == whole_run[2][-1][2]["loss"]


def test_the_card_is_made_once_from_held_out_episodes(whole_run):
    workdir, result, _, cards = whole_run
    # 0.3 * 8 episodes are 2.
    assert [(step, episodes) for _, _, step, episodes in cards] == [(80, 2)]
    assert result.card["colour"] == "blue" and np.isnan(result.card["level"])
    assert checkpoint.load(workdir, 60).card is None


def test_a_finished_run_is_not_trained_again(whole_run):
    workdir, result, _, _ = whole_run

    def forbidden(*args):
        raise AssertionError("must not be called")

    again = training_fit.fit(
        CONFIG,
        make_episodes(LENGTHS),
        workdir,
        make_card=forbidden,
        progress=forbidden,
    )
    jax.tree.map(
        np.testing.assert_array_equal, values_of(again.state), values_of(result.state)
    )


@pytest.mark.slow
def test_a_killed_run_resumes_bit_for_bit(whole_run, same_programs, tmp_path):
    """kill -9 at step 50: step 40 is whole on disk, ten steps are repeated."""
    _, result, _, _ = whole_run
    killed_at(50, tmp_path, module="tests.training.test_training_fit")
    assert checkpoint.load(tmp_path).step == 40
    steps = []
    resumed = training_fit.fit(
        CONFIG,
        make_episodes(LENGTHS),
        tmp_path,
        progress=lambda step, *_: steps.append(step),
    )
    assert steps == list(range(50, 81, 10))
    jax.tree.map(
        np.testing.assert_array_equal, values_of(resumed.state), values_of(result.state)
    )
    curves = [read_curve(folder) for folder in (tmp_path, whole_run[0])]
    for row in (*curves[0], *curves[1]):
        del row["steps_per_second"]
    assert curves[0] == curves[1]


@pytest.mark.slow
def test_a_finished_run_can_be_extended(whole_run, same_programs, tmp_path):
    """With the bits of a run that was meant to be so long from the start."""
    half = dataclasses.replace(CONFIG.train, num_steps=CONFIG.train.num_steps // 2)
    half = dataclasses.replace(CONFIG, train=half)
    training_fit.fit(half, make_episodes(LENGTHS), tmp_path)
    found = training_fit.fit(CONFIG, make_episodes(LENGTHS), tmp_path)
    assert found.step == CONFIG.train.num_steps
    jax.tree.map(
        np.testing.assert_array_equal,
        values_of(found.state),
        values_of(whole_run[1].state),
    )
    with pytest.raises(UserError, match="first difference: train.num_steps"):
        training_fit.fit(half, make_episodes(LENGTHS), tmp_path)


@pytest.mark.parametrize(
    "changes, run, step, message",
    [
        ({"schedule": "cosine"}, {}, 20, "learning rates of train.schedule=cosine"),
        ({"keep_fractions": (0.5,)}, {}, 20, "train.keep_fractions are shares"),
        ({}, {}, 7, "step 7 is no multiple of train.chunk"),
        ({"stop_on": "val_loss"}, {"is_finished": True}, 20, "kept the best states"),
    ],
)
def test_a_run_that_would_have_been_another_is_not_extended(
    changes, run, step, message
):
    old = dataclasses.replace(
        CONFIG, train=dataclasses.replace(CONFIG.train, **changes)
    )
    new = dataclasses.replace(old, train=dataclasses.replace(old.train, num_steps=900))
    with pytest.raises(UserError, match=f"cannot go on to 900: .*{message}"):
        longer.is_longer(new, old, step, run, "runs/x")
    assert not longer.is_longer(old, new, step, run, "runs/x")
    assert not longer.is_longer(old, old, step, run, "runs/x")


def test_a_loss_that_is_not_finite_names_seed_and_step(
    whole_run, same_programs, tmp_path
):
    """The run goes on from step 40; one of its parameters is no number any more."""
    workdir = tmp_path / "run"
    shutil.copytree(whole_run[0], workdir)
    for step in (60, 80):
        shutil.rmtree(workdir / "checkpoints" / str(step))
    make_chunk = training_fit.make_train_chunk

    def spoiling(*args):
        chunk = make_chunk(*args)

        def run(states, data):
            if int(states.step[0]) == 50:
                params = dict(states.params)
                policy = dict(params["policy"])
                bias = policy["Dense_1"]["bias"] * jnp.nan
                policy["Dense_1"] = policy["Dense_1"] | {"bias": bias}
                states = states.replace(params=params | {"policy": policy})
            return chunk(states, data)

        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_fit, "make_train_chunk", spoiling)
        with pytest.raises(UserError) as error:
            training_fit.fit(CONFIG, make_episodes(LENGTHS), workdir)
    assert "seed 3 is not finite at step 51;" in str(error.value)
    loaded = checkpoint.load(workdir)
    assert loaded.step == 40
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(loaded.state.params))
    # The curve ends at the checkpoint too, though the copied file went on.
    assert [r["step"] for r in read_curve(workdir)][:2] == ["20", "40"]


@pytest.mark.slow
def test_seeds_are_an_axis(whole_run):
    """One chunk of two seeds at once is, up to the order of sums, two chunks of one."""
    loaded = checkpoint.load(whole_run[0], 20)
    training, _ = make_episodes(LENGTHS).split(CONFIG.train.held_out, seed=3)
    data = device_rows.to_device(training, loaded.spec)
    learner = sequence.make_learner(CONFIG, loaded.spec)
    two = dataclasses.replace(
        CONFIG, train=dataclasses.replace(CONFIG.train, num_seeds=2)
    )
    # The second seed stands elsewhere and has its own stream.
    first = values_of(loaded.state)
    second = first.replace(
        key=first.key + np.uint32(1),
        params=jax.tree.map(lambda x: x * np.float32(0.9), first.params),
    )

    def on_device(*states):
        """Fresh buffers, since a chunk takes those it is given."""
        state = jax.tree.map(lambda *x: np.concatenate(x), *states)
        state = state.replace(key=jax.random.wrap_key_data(state.key))
        return jax.tree.map(jnp.asarray, state)

    both = on_device(first, second)
    both, metrics = training_fit.make_train_chunk(two, learner, 10)(both, data)
    alone = training_fit.make_train_chunk(CONFIG, learner, 10)
    for index, start in enumerate((first, second)):
        state, single = alone(on_device(start), data)
        for name in metrics:
            np.testing.assert_allclose(
                metrics[name][index], single[name][0], rtol=2e-3, err_msg=name
            )
        for got, expected in zip(
            jax.tree.leaves((both.params, both.extra)),
            jax.tree.leaves((state.params, state.extra)),
            strict=True,
        ):
            np.testing.assert_allclose(got[index], expected[0], atol=2e-3)
    assert metrics["loss"][0] != metrics["loss"][1]


@pytest.mark.slow
def test_every_step_draws_rows_of_its_own():
    """By the step alone, however the steps are cut into chunks; the stream for the loss
    is another one.
    """
    episodes = make_episodes(LENGTHS)
    data = device_rows.to_device(episodes, make_spec(episodes))

    def note(state, batch):
        drawn = state.extra.at[state.step].set(batch.obs[:, 0].sum())
        return state.replace(step=state.step + 1, extra=drawn), {"loss": drawn.sum()}

    sample = sequence.make_learner(CONFIG, make_spec(episodes)).sample
    learner = Learner(None, sample, note, None)

    def run(*sizes):
        state = TrainState(
            step=jnp.zeros(1, jnp.int32),
            key=jax.random.wrap_key_data(np.array([[0, 5]], np.uint32)),
            params=(),
            opt_state=(),
            extra=jnp.zeros((1, 10)),
        )
        for size in sizes:
            state, _ = training_fit.make_train_chunk(CONFIG, learner, size)(state, data)
        return np.asarray(state.extra[0])

    drawn = run(10)
    assert len(np.unique(drawn)) == 10
    np.testing.assert_array_equal(run(5, 3, 2), drawn)


@pytest.mark.slow
def test_a_card_that_fails_is_a_warning_and_is_made_up_for(
    whole_run, same_programs, tmp_path
):
    """The checkpoint is whole before the card is measured; here from step 60 on."""
    workdir, seen = tmp_path / "run", []
    shutil.copytree(whole_run[0], workdir)
    shutil.rmtree(workdir / "checkpoints" / "80")

    def failing(config, spec, state, held_out):
        seen.append(checkpoint.load(workdir).step)
        raise ValueError("episodes of one step\nand more")

    with pytest.warns(training_fit.CardWarning) as caught:
        result = training_fit.fit(
            CONFIG, make_episodes(LENGTHS), workdir, make_card=failing
        )
    said = [str(w.message) for w in caught if w.category is training_fit.CardWarning]
    assert len(said) == 1 and "\n" not in said[0]
    assert "not measured (episodes of one step); the checkpoint of step 80" in said[0]
    assert seen == [80] and result.card is None and result.run["is_finished"]
    jax.tree.map(
        np.testing.assert_array_equal,
        values_of(result.state),
        values_of(whole_run[1].state),
    )

    def forbidden(*_):
        raise AssertionError("the training is finished")

    again = training_fit.fit(
        CONFIG,
        make_episodes(LENGTHS),
        workdir,
        make_card=lambda config, spec, state, held_out: {"step": int(state.step)},
        progress=forbidden,
    )
    assert again.card == {"step": 80} and again.step == 80


def test_a_second_training_in_a_folder_says_so(whole_run, tmp_path):
    """It ends before it has read or written anything; the first one goes on."""
    writer = checkpoint.Writer(tmp_path, CONFIG, whole_run[1].spec)
    with pytest.raises(UserError, match="training is going on there already"):
        training_fit.fit(CONFIG, make_episodes(LENGTHS), tmp_path)
    writer.close()
    assert not (tmp_path / "metrics.csv").exists()
