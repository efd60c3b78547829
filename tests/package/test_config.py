"""Dotted overrides and the round trip of configurations."""

import dataclasses
import json

import pytest

from experiments.benchmarks.model_cases import make_spec as case_spec
from sas_jax import config as config_lib
from sas_jax import learners
from sas_jax.errors import UserError
from sas_jax.experiment import make_model
from sas_jax.learners import default_config
from tests.helpers.model_fixtures import make_config, make_spec


@dataclasses.dataclass(frozen=True)
class Inner:
    width: int = 8
    rate: float = 0.5
    name: str = "a"

    def __post_init__(self):
        if self.width < 1:
            raise ValueError(f"width must be >= 1, got {self.width}")


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner = dataclasses.field(default_factory=Inner)
    sizes: tuple[int, ...] = (1, 2)
    names: tuple[str, ...] = ("x",)
    target: float | None = None
    flag: bool = False
    steps: int = 100


@pytest.mark.parametrize(
    "setting, read, expected",
    [
        ("inner.width=32", lambda c: c.inner.width, 32),
        ("inner.width=1e3", lambda c: c.inner.width, 1000),
        ("inner.rate=3", lambda c: c.inner.rate, 3.0),
        ("inner.rate=1e-4", lambda c: c.inner.rate, 1e-4),
        ("inner.name = b=c ", lambda c: c.inner.name, "b=c"),
        ("sizes=4,5,6", lambda c: c.sizes, (4, 5, 6)),
        ("sizes=(7,)", lambda c: c.sizes, (7,)),
        ("sizes=()", lambda c: c.sizes, ()),
        ("names=none, rand", lambda c: c.names, ("none", "rand")),
        ("target=2.5", lambda c: c.target, 2.5),
        ("target=none", lambda c: c.target, None),
        ("flag=True", lambda c: c.flag, True),
        ("flag=0", lambda c: c.flag, False),
    ],
)
def test_overrides(setting, read, expected):
    value = read(config_lib.override(Outer(target=1.0), [setting]))
    assert value == expected and type(value) is type(expected)


def test_overrides_apply_in_order_and_leave_the_rest():
    config = config_lib.override(Outer(steps=7), ["inner.width=2", "inner.width=3"])
    assert config == Outer(inner=Inner(width=3), steps=7)
    assert config_lib.override(config, []) == config


@pytest.mark.parametrize(
    "setting, message",
    [
        ("inner.widht=3", "inner.widht: no such setting; did you mean 'width'?"),
        ("iner.width=3", "iner: no such group; did you mean 'inner'?"),
        ("inner.width.x=3", "inner.width: no such group"),
        ("stps=3", "stps: no such setting; did you mean 'steps'?"),
        ("inner=3", "is a group of settings"),
        ("steps", "expected name=value"),
        ("=3", "expected name=value"),
        ("steps=many", "steps: expected int, got 'many'"),
        ("steps=2.5", "steps: expected int, got 2.5"),
        ("steps=inf", "steps: expected int, got inf"),
        ("steps=nan", "steps: expected int, got nan"),
        ("inner.rate=nan", "inner.rate: expected float, got nan"),
        ("inner.rate=fast", "inner.rate: expected float, got 'fast'"),
        ("flag=maybe", "flag: expected bool, got 'maybe'"),
        ("sizes=1,b", "sizes: expected int, got 'b'"),
        ("target=high", "target: expected float, got 'high'"),
        ("inner.width=0", "inner: width must be >= 1, got 0"),
    ],
)
def test_bad_overrides_name_the_culprit(setting, message):
    with pytest.raises(UserError) as error:
        config_lib.override(Outer(), [setting])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("algo", ["dt", "cdt"])
def test_round_trip_through_json(algo):
    config = default_config("CarGoal1", algo)
    text = json.dumps(config_lib.to_dict(config))
    assert learners.from_dict(json.loads(text)) == config


@pytest.mark.parametrize(
    "values, message",
    [
        ({"model": {"latents": 3}}, "model.latents: no such setting"),
        ({"model": 3}, "model: is a group of settings"),
        ({"train": {"chunk": True}}, "train.chunk: expected int, got True"),
        ({"task": 3}, "task: expected str, got 3"),
        ({"model": {"policy_hidden": 3}}, "model.policy_hidden: expected a comma"),
    ],
)
def test_bad_dicts_name_the_culprit(values, message):
    with pytest.raises(UserError) as error:
        learners.from_dict(values)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "setting, message",
    [
        ("algo=dtt", "algo: unknown 'dtt'; did you mean 'dt'?"),
        ("algo=cdt", "algo=cdt: expected 'dt', whose settings these are"),
        ("model.cost_token=true", "no such setting"),
        ("model.decoder.num_heads=3", "multiple of num_heads"),
        ("train.checkpoint_every=75", "checkpoint_every"),
        ("train.held_out=1.0", "held_out"),
        ("train.schedule=linear", "schedule"),
        ("train.num_seeds=0", "num_seeds"),
        ("train.keep_checkpoints=0", "train.keep_checkpoints must be >= 1, got 0"),
        ("train.seed=-1", "train.seed must lie in .0, 4294967296., got -1"),
        ("train.seed=4294967296", "train.seed must lie in"),
        ("train.warmup=-1", "train.warmup must be >= 0"),
        ("train.weight_decay=-0.1", "train.weight_decay must be >= 0"),
        ("train.learning_rate=-0.1", "train.learning_rate must be > 0, got -0.1"),
        ("train.clip_norm=0", "train.clip_norm must be > 0"),
        ("train.cost_limits=20", "train.cost_limits .* expected none with algo 'dt'"),
        ("train.cost_limits=-1", "train.cost_limits must be >= 0, got .-1.0,."),
        ("sas.horizon=3", "horizon"),
        ("sas.num_second=0", "num_second"),
    ],
)
def test_experiments_refuse_what_does_not_fit(setting, message):
    with pytest.raises(UserError, match=message):
        learners.override(default_config("PointGoal1"), [setting])


def test_models_take_their_sizes_from_the_data():
    config, spec = make_config(), make_spec()
    model = make_model(config, spec)
    assert (model.obs_dim, model.action_dim) == (5, 2)
    assert model.active == (True, True, True, True, False)
    assert model.reward_unit == spec.reward_std / spec.return_scale
    hash(model)  # static under jit


def test_a_policy_is_kept_from_groups_of_observations_by_name():
    config = make_config(model={"policy_blind": ("accelerometer", "gyro")})
    spec = case_spec(config)
    seen = make_model(config, spec).seen
    assert [i for i, is_seen in enumerate(seen) if not is_seen] == [0, 1, 2, 6, 7, 8]
    assert make_model(make_config(), spec).seen is None
    config = make_config(model={"policy_blind": ("giro",)})
    with pytest.raises(UserError, match="no observations 'giro'; did you mean 'gyro'"):
        make_model(config, spec)
    with pytest.raises(UserError, match="it has no groups"):
        make_model(config, make_spec())  # not the task's observations
