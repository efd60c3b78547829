"""Values that a setting cannot have: every config refuses them by name at once."""

import dataclasses
import math
import typing

import numpy as np
import pytest

from sas_jax import config as config_lib
from sas_jax.alignment.config import PlanConfig, SASConfig
from sas_jax.config import Choice, Many, Number, check
from sas_jax.critic.network import CriticConfig
from sas_jax.data.augment import AugmentConfig
from sas_jax.data.sampling import DataConfig
from sas_jax.errors import UserError
from sas_jax.evaluation.evaluate import EvaluationConfig
from sas_jax.evaluation.targets import check_cost_limits, check_target_returns
from sas_jax.experiment import ExperimentConfig, PolicyConfig, TrainConfig
from sas_jax.learners import default_config
from sas_jax.learners.bc import BCConfig
from sas_jax.models.config import WorldModelConfig
from sas_jax.models.transformer import DecoderConfig

INF, NAN = math.inf, math.nan
COUNTS = (0, -1, 1.5, NAN, True, None, "4")
SIZES = (-0.1, NAN, INF, True, None, "4")
# Group of settings -> config, and values that each field refuses.
REFUSED = {
    "sas": (
        SASConfig,
        {
            "num_first": COUNTS,
            "num_second": COUNTS,
            "prompt_length": COUNTS,
            "energy_window": COUNTS,
            "fragments": COUNTS,
            "gate_actions": COUNTS,
            "num_importance": COUNTS,
            "horizon": (-1, 1, 7.5, NAN, None),
            "realign_every": (-1, 1.5, None),
            "realign_horizon": (-1, 1, None),
            "discount": (0.0, 1.1, NAN),
            "decoder_noise": SIZES,
            "concentrability": (0.0, *SIZES),
            "drift_margin": (NAN, INF, None),
            "risk_penalty": SIZES,
            "gate_level": (NAN, INF, "low"),
            "density": ("bogus", None, 1),
            "prompt_place": ("bogus", "PINNED"),
        },
    ),
    "model": (
        WorldModelConfig,
        {
            "latent_dim": COUNTS,
            "marginal_latent_dim": COUNTS,
            "max_timestep": COUNTS,
            "vae_hidden": ((0,), (8, -1), (1.5,), 8, None),
            "policy_hidden": ((0,), 8),
            "head_hidden": ((0,), 8),
            "decoder_floor": (0.0, *SIZES),
            "self_noise": (-0.1, 1.1, NAN),
            "free_bits": SIZES,
            "state_weight": SIZES,
            "marginal_weight": SIZES,
            "return_weight": SIZES,
            "cost_weight": SIZES,
        },
    ),
    "model.decoder": (
        DecoderConfig,
        {
            "width": COUNTS,
            "depth": COUNTS,
            "num_heads": (*COUNTS, 3),  # 3 does not divide the width
            "context": (1, *COUNTS),
            "dropout": (-0.1, 1.0, NAN),
            "dtype": ("float64", None),
        },
    ),
    "train": (
        TrainConfig,
        {
            "num_steps": COUNTS,
            "batch_rows": COUNTS,
            "row_length": COUNTS,
            "learning_rate": (0.0, *SIZES),
            "warmup": (-1, 1.5, None),
            "schedule": ("linear", None),
            "weight_decay": SIZES,
            "clip_norm": (0.0, -1.0, NAN, INF, "none"),
            "chunk": COUNTS,
            "checkpoint_every": (*COUNTS, 75),  # not a multiple of the chunk
            "keep_checkpoints": COUNTS,
            "held_out": (0.0, 1.0, NAN),
            "seed": (-1, 2**32, 1.5, None),
            "num_seeds": COUNTS,
            "cost_limits": (20.0, (-1.0,), (INF,), (20.0, 20.0)),
            "devices": (-1, 1.5, None),
            "accumulate": (*COUNTS, 3),  # 3 does not divide the rows
            "stop_patience": COUNTS,
            "keep_fractions": ((0.0,), (1.5,), 0.5),
        },
    ),
    "policy": (
        PolicyConfig,
        {
            "entropy_target": (INF, NAN, "none"),
            "temperature": (0.0, *SIZES),
            "temperature_rate": (0.0, *SIZES),
            "prompt_prob": (-0.1, 1.5, NAN),
            "cost_drop": (-0.1, 1.0, NAN),
        },
    ),
    "critic": (
        CriticConfig,
        {
            "horizon": COUNTS,
            "members": COUNTS,
            "batch_size": COUNTS,
            "num_steps": COUNTS,
            "check_every": COUNTS,
            "patience": COUNTS,
            "learning_rate": (0.0, -1.0, NAN, INF),
            "weight_decay": (-0.1, NAN),
            "pessimism": (-0.1, INF),
            "hidden": ((0,), (1.5,)),
        },
    ),
    "sas.plan": (
        PlanConfig,
        {
            "num_candidates": COUNTS,
            "horizon": COUNTS,
            "execute": (*COUNTS, 51),  # beyond the horizon
            "num_reference": (*COUNTS, 16),  # all candidates
            "num_importance": COUNTS,
            "persistence": (-0.1, 1.1, NAN),
            "action_scale": SIZES,
            "push_steps": (-1, 1.5, NAN),
            "slack": SIZES,
            "cost_weight": SIZES,
            "margin": (NAN, INF, "4"),
            "tolerance": (-0.1, NAN, INF, "4"),
            "least_saving": (-0.1, 1.1, NAN),
            "world_noise": SIZES,
            "max_error": (0.0, *SIZES),
            "error_memory": (-0.1, 1.1, NAN),
        },
    ),
    "model.": (BCConfig, {"hidden": ((0,), (1.5,), 8)}),
    "data": (
        DataConfig,
        {"cost_zero": (0.0, -1.0, NAN, INF), "cost_sampling": ("bogus",)},
    ),
    "data.augment": (
        AugmentConfig,
        {
            "augment_percent": (-0.1, 1.1, NAN),
            "frontier_degree": (-1, 0.5, None),
            "max_reward": (INF,),
            "min_reward": (NAN, None),
            "max_rew_decrease": (-1.0, INF),
            "beta": (0.0, *SIZES),
        },
    ),
    "": (
        EvaluationConfig,
        {
            "variants": ((), "sas", ("sas", "sas")),
            "cost_limits": (20.0, (), (-1.0,), (NAN,), (20.0, 20.0), "20"),
            "target_return": (INF, "30"),
            "num_episodes": COUNTS,
            "num_workers": (0, 1.5),
            "devices": (-1, None),
            "first_seed": (-1, 2**32, 2**32 - 3, 0.5),
            "seed": (-1, 2**32, None),
            "train_seed": (-1, None),
        },
    ),
}
CASES = [
    (group, make, name, value)
    for group, (make, fields) in REFUSED.items()
    for name, values in fields.items()
    for value in values
]


@pytest.mark.parametrize(
    ("group", "make", "name", "value"),
    CASES,
    ids=[f"{group}.{name}={value}" for group, _, name, value in CASES],
)
def test_a_bad_value_is_named(group, make, name, value):
    with pytest.raises(UserError) as error:
        make(**{name: value})
    message = str(error.value)
    assert message.startswith(group) and name in message and "\n" not in message


NUMBERS = {int, float, int | None, float | None}
NUMBERS |= {tuple[int, ...], tuple[float, ...]}


@pytest.mark.parametrize("group", REFUSED)
def test_every_number_has_a_rule(group):
    """So that a setting added later cannot be forgotten here."""
    make, fields = REFUSED[group]
    hints = typing.get_type_hints(make)
    kinds = {name for name, hint in hints.items() if hint in NUMBERS}
    assert kinds <= set(fields), kinds - set(fields)


def test_every_config_is_here():
    """All that are parts of `ExperimentConfig`, whatever the algorithm."""
    known = {make for make, _ in REFUSED.values()}
    waiting = [default_config("PointGoal1", algo) for algo in ("dt", "cdt", "bc")]
    while waiting:
        config = waiting.pop()
        parts = [getattr(config, f.name) for f in dataclasses.fields(config)]
        waiting += [part for part in parts if dataclasses.is_dataclass(part)]
        assert type(config) in known | {ExperimentConfig}, type(config)


def test_the_defaults_are_allowed():
    for make, _ in REFUSED.values():
        make()


def test_numpy_numbers_are_numbers():
    made = SASConfig(num_first=np.int64(3), discount=np.float32(0.5))
    assert made.num_first == 3 and made.gate_level is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.decoder.num_heads=0", "model.decoder.num_heads must be >= 1"),
        ("model.vae_hidden=0", "model.vae_hidden must be >= 1, got (0,)"),
        ("sas.num_importance=0", "sas.num_importance must be >= 1"),
        ("sas.density=bogus", "sas.density must be one of transition, marginal"),
        ("sas.density=marginl", "did you mean 'marginal'"),
        ("sas.discount=2", "sas.discount must lie in (0, 1], got 2"),
        ("sas.horizon=1001", "sas.horizon 1001 must be <= 1000, the steps of an episo"),
        ("train.seed=-1", "train.seed must lie in [0, 4294967296), got -1"),
        ("train.keep_checkpoints=0", "train.keep_checkpoints must be >= 1"),
        ("train.learning_rate=-0.1", "train.learning_rate must be > 0"),
    ],
)
def test_overrides_say_the_same(setting, message):
    with pytest.raises(UserError) as error:
        config_lib.override(default_config("PointGoal1"), [setting])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("check_them", "values", "message"),
    [
        (check_cost_limits, 20.0, "cost_limits: 20.0; expected a tuple, (20.0,)"),
        (check_cost_limits, "20", "expected a tuple"),
        (check_cost_limits, (INF,), "cost_limits: inf; each must be finite"),
        (check_cost_limits, ("20",), "cost_limits: '20'; each must be a number"),
        (check_target_returns, 30.0, "target_returns: 30.0; expected a tuple"),
        (check_target_returns, (INF,), "target_returns: inf; each must be finite"),
    ],
)
def test_targets(check_them, values, message):
    with pytest.raises(UserError) as error:
        check_them(values)
    assert message in str(error.value)


RULES = [
    (Number(), (0, -1.5), {NAN: "must be finite", "a": "must be a number"}),
    (Number(least=0, below=1), (0, 0.99), {1: "must lie in [0, 1)"}),
    (Number(above=0, most=1), (0.1, 1), {0: "must lie in (0, 1]"}),
    (Number(above=0), (0.1,), {0: "must be > 0"}),
    (Number(most=3), (3, -9), {4: "must be <= 3"}),
    (Number(below=3), (2,), {3: "must be < 3"}),
    (Number(least=1, whole=True), (1, 2), {1.0: "must be a whole number"}),
    (Number(optional=True), (None, 1), {INF: "must be finite"}),
    (Many(Number(least=1), least=1), ((1, 2),), {(): "must have at least 1 of them"}),
    (Choice(("a", "b")), ("a",), {"c": "must be one of a, b"}),
]


@pytest.mark.parametrize(("rule", "allowed", "refused"), RULES)
def test_rules(rule, allowed, refused):
    for value in allowed:
        assert rule.problem(value) is None
    for value, problem in refused.items():
        assert rule.problem(value).startswith(problem)


def test_check_without_a_group():
    with pytest.raises(UserError, match="^num_first must be > 9, got 5$"):
        check(SASConfig(), "", {"num_first": Number(above=9)})
