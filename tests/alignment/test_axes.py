"""Every variant under every axis of ablation, end to end at a tiny size."""

import dataclasses

import jax
import numpy as np
import pytest

from sas_jax.alignment import variants as variants_lib
from sas_jax.alignment.config import PlanConfig
from sas_jax.learners import sequence
from sas_jax.types import Rows, TimeStep
from tests.helpers.model_fixtures import make_config, make_spec, make_variables

# Those that need a cost critic: tests/alignment/test_gate.py; a model of the return to
# ask for: tests/alignment/test_asked.py; guidance: tests/alignment/test_guidance.py; a
# support model: tests/alignment/test_supported.py; a memory of the episode:
# tests/alignment/test_recall.py.
VARIANTS = tuple(
    v
    for v, what in variants_lib.VARIANTS.items()
    if not (
        what.needs_critic
        or what.asks
        or what.is_supported
        or what.recalls
        or what.guidance != 1
    )
)
PROMPTED = np.array([variants_lib.VARIANTS[v].has_prompt for v in VARIANTS])
STEPS = 5
CASES = {
    "pinned": {"num_first": 1, "num_second": 1, "prompt_length": 3, "horizon": 3},
    "pinned, three fragments": {
        "num_first": 3,
        "fragments": 3,
        "prompt_length": 1,
        "energy_window": 10,
        "realign_every": 2,
        "realign_horizon": 4,
        "track_drift": True,
    },
    "sliding": {
        "prompt_place": "sliding",
        "fragments": 3,
        "prompt_length": 1,
        "num_second": 4,
        "energy_window": 1,
        "realign_every": 2,
        "sample_actions": False,
    },
    "beside": {
        "prompt_place": "beside",
        "fragments": 5,
        "density": "marginal",
        "num_importance": 2,
        "track_drift": True,
        "discount": 1.0,
        "horizon": 5,
    },
}
PLAN = PlanConfig(num_candidates=3, horizon=3, execute=2, num_reference=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_variant_runs_under_every_axis(name):
    algo = "cdt" if name == "sliding" else "dt"
    config = make_config(
        algo=algo, decoder={"depth": 1, "width": 8}, sas=CASES[name] | {"plan": PLAN}
    )
    sas, spec = config.sas, make_spec()
    variables = make_variables(config, spec)
    learner = sequence.make_policy(config, spec, variants=VARIANTS)
    count = len(VARIANTS)
    rows = Rows(
        cost_limit=np.full(count, 20.0, np.float32),
        episode_seed=np.full(count, 9, np.uint32),
    )
    key = jax.random.key(2)
    carry = jax.jit(learner.initial_carry)(variables, rows, key)
    begin, act = jax.jit(learner.begin), jax.jit(learner.act)
    rng, actions = np.random.default_rng(0), []
    for t in range(STEPS):
        obs = np.tile(rng.normal(size=5).astype(np.float32), (count, 1))
        obs[:, 4] = 7.0
        zeros = np.zeros(count, np.float32)
        ts = TimeStep(obs, zeros, zeros, np.full(count, t == 0))
        if t == 0:
            carry = begin(variables, carry, ts, key)
        action, carry = act(variables, carry, ts, key)
        actions.append(np.asarray(action))
    actions = np.stack(actions, 1)
    assert np.isfinite(actions).all() and np.abs(actions).max() <= 1
    steps = sas.fragments * sas.prompt_length
    assert carry.prompt.segment.obs.shape == (count, steps, 5)
    np.testing.assert_array_equal(carry.prompt.is_present, PROMPTED)
    takes_room = sas.prompt_place == "pinned"
    narrow = PROMPTED | np.array([v == "short" for v in VARIANTS])
    expected = np.where(narrow & takes_room, 5 - steps, 5)
    np.testing.assert_array_equal(carry.state.window, expected)
    known = learner.diagnostics(carry)
    for field in ("level", "mean_u", "mean_v", "score"):
        np.testing.assert_array_equal(np.isfinite(known[field]), PROMPTED)
    if sas.realign_every:
        np.testing.assert_array_equal(known["num_realigned"], 2 * PROMPTED)
    if sas.track_drift and sas.energy_window <= STEPS:
        np.testing.assert_array_equal(np.isfinite(known["drift"]), PROMPTED)
    moved = np.abs(actions - actions[VARIANTS.index("none")]).max(axis=(1, 2))
    assert (moved[PROMPTED] > 1e-5).all()
    is_null = VARIANTS.index("null")
    assert (moved[is_null] > 1e-3) == sas.sample_actions


def test_the_cases_name_every_setting_of_algorithm_1():
    """A new setting has to be given a case."""
    left_out = {"concentrability", "decoder_noise", "drift_margin"}
    left_out |= {"risk_penalty", "gate_actions", "gate_level", "plan"}
    named = set().union(*CASES.values())
    fields = {f.name for f in dataclasses.fields(make_config().sas)}
    assert fields == named | left_out
