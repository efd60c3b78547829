"""The registry: what it knows, and an algorithm from outside, from data to rows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import checkpoint, learners
from sas_jax import config as config_lib
from sas_jax.data import transitions
from sas_jax.errors import UserError
from sas_jax.evaluation.evaluate import EvaluationConfig, evaluate
from sas_jax.experiment import ExperimentConfig, TrainConfig
from sas_jax.learners import memoryless
from sas_jax.learners.algorithm import Algorithm
from sas_jax.training import fit as training_fit
from sas_jax.types import Learner, TrainState
from tests.helpers.model_fixtures import make_episodes
from tests.learners.test_bc import small_task, values_of

# ------------------------------------------------- the module of a user


@dataclasses.dataclass(frozen=True)
class MeanConfig:
    """rate: how fast the mean follows."""

    rate: float = 0.1


def default_config(task):
    train = TrainConfig(num_steps=12, batch_rows=4, row_length=1, chunk=2)
    train = dataclasses.replace(train, checkpoint_every=4, keep_checkpoints=9)
    return ExperimentConfig(task=task, algo="mean", model=MeanConfig(), train=train)


def make_learner(config, spec):
    """Follows the mean action of the batches; nothing to differentiate."""

    def init(key, cost_limit):
        del cost_limit
        mean = jnp.zeros(spec.action_dim)
        return TrainState(jnp.zeros((), jnp.int32), key, {"mean": mean}, (), ())

    def sample(data, key, state):
        size, steps = config.train.batch_rows, data.ends[-1]
        return transitions.sample(data, key, batch_size=size, num_steps=steps)

    def error(state, batch):
        return batch.action.mean(0) - state.params["mean"]

    def update(state, batch):
        off = error(state, batch)
        mean = state.params["mean"] + config.model.rate * off
        state = state.replace(step=state.step + 1, params={"mean": mean})
        return state, {"loss": jnp.square(off).mean()}

    def validate(state, batch, key):
        return {"loss": jnp.square(error(state, batch)).mean()}

    return Learner(init, sample, update, validate)


def make_policy(config, spec, *, variants=("none",), report_limits=None):
    def act(variables, obs):
        return jnp.broadcast_to(variables["mean"], (len(obs), spec.action_dim))

    return memoryless.make_policy(spec, act)


MEAN = Algorithm(
    name="mean",
    config_class=MeanConfig,
    default_config=default_config,
    make_learner=make_learner,
    make_policy=make_policy,
    variables_of=lambda state: dict(state.params),
    to_device=lambda config, spec, episodes, *, is_training: transitions.to_device(
        episodes, spec
    ),
)

# ----------------------------------------------------------------- tests


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(learners, "_registered", {})
    learners.register(MEAN)


def test_an_algorithm_from_outside_is_trained_resumed_and_evaluated(
    registered, tmp_path, monkeypatch
):
    config = learners.override(
        learners.default_config("PointGoal1", "mean"), ["model.rate=0.5"]
    )
    assert config.model == MeanConfig(0.5)
    episodes = make_episodes((8, 9, 10, 11))
    whole = training_fit.fit(config, episodes, tmp_path / "whole")
    assert whole.step == 12 and whole.card is None

    class Stop(Exception):
        pass

    def stop(step, *_):
        if step == 8:
            raise Stop

    with pytest.raises(Stop):
        training_fit.fit(config, episodes, tmp_path / "cut", progress=stop)
    loaded = checkpoint.load(tmp_path / "cut")
    assert (loaded.step, loaded.config) == (4, config)
    again = training_fit.fit(config, episodes, tmp_path / "cut")
    jax.tree.map(
        np.testing.assert_array_equal, values_of(again.state), values_of(whole.state)
    )
    small_task(monkeypatch)
    rows = evaluate(
        checkpoint.load(tmp_path / "cut"),
        EvaluationConfig(variants=("none",), cost_limits=(1.0, 2.0), num_episodes=5),
    ).results
    assert len(rows) == 10 and {row.algo for row in rows} == {"mean"}
    # One episode judged at two thresholds.
    assert len({(row.episode_seed, row.episode_return) for row in rows}) == 5


def test_without_its_registration_the_checkpoint_names_the_algorithm(
    registered, tmp_path, monkeypatch
):
    config = learners.default_config("PointGoal1", "mean")
    training_fit.fit(config, make_episodes((8, 9, 10, 11)), tmp_path)
    monkeypatch.setattr(learners, "_registered", {})
    with pytest.raises(UserError, match="algo: unknown 'mean'.*known: dt, cdt, bc"):
        checkpoint.load(tmp_path)


def test_names_are_taken_once(registered):
    learners.register(MEAN)  # a module imported twice
    for name in ("mean", "dt"):
        other = dataclasses.replace(MEAN, name=name)
        with pytest.raises(UserError, match=f"there is a '{name}' already"):
            learners.register(other)
    assert learners.names()[-1] == "mean"


@pytest.mark.parametrize("algo", [*learners._MODULES])
def test_every_algorithm_of_ours_answers_by_its_name(algo):
    algorithm = learners.get(algo)
    config = learners.default_config("CarGoal1", algo)
    assert algorithm.name == config.algo == algo and config.task == "CarGoal1"
    assert learners.check(config) is config
    assert type(config.model) is algorithm.config_class
    assert learners.from_dict(config_lib.to_dict(config)) == config
    assert algorithm.check_variants(algorithm.default_variants)


def test_a_checkpoint_outlives_defaults_that_its_algorithm_does_not_read():
    """Defaults of SAS then and now: nothing of what a clone was trained with."""
    config = learners.default_config("PointGoal1", "bc")
    values = config_lib.to_dict(config)
    values["sas"]["num_first"] = 99
    assert learners.from_dict(values) == config
    of_dt = config_lib.to_dict(learners.default_config("PointGoal1", "dt"))
    of_dt["sas"]["num_first"] = 99
    assert learners.from_dict(of_dt).sas.num_first == 99


def test_a_model_of_another_algorithm_is_refused():
    config = learners.default_config("PointGoal1", "bc")
    other = dataclasses.replace(config, algo="dt")
    with pytest.raises(UserError, match="model: BCConfig; expected WorldModelConfig"):
        learners.check(other)
    with pytest.raises(UserError, match="unknown 'bd'; did you mean"):
        learners.get("bd")
