"""Choosing by a cost critic: against plain transcriptions, then inside the policy."""

import dataclasses
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment import policy as aligned_policy
from sas_jax.alignment.gate import RiskModel, gate, pass_gate
from sas_jax.alignment.rules import Candidates, least_risk
from sas_jax.alignment.sequence_model import Observed
from sas_jax.errors import UserError
from sas_jax.learners import sequence
from sas_jax.types import Rows, TimeStep
from tests.helpers.model_fixtures import make_config, make_spec, make_variables

EPISODES = 3
CONFIG = make_config(
    algo="dt",
    decoder={"depth": 1, "width": 8},
    sas={"num_first": 3, "num_second": 3, "prompt_length": 2, "gate_actions": 5},
)
# The first action component is the risk; thresholds are levels.
TOY = RiskModel(
    risk=lambda variables, obs, action: variables["sign"] * action[..., 0],
    level=lambda variables, limit: limit,
)


def transcribe(energies, risk, penalty, num_steps):
    """Rows that may be chosen -> their scores; plain numpy, row by row."""
    steps = energies.shape[1] if num_steps is None else num_steps
    rows = [
        i
        for i in range(len(energies))
        if np.isfinite(energies[i]).all() and np.isfinite(risk[i]).all()
    ]
    if not rows:
        return {}

    def standard(table):
        means = np.array([table[i, :steps].astype(np.float64).mean() for i in rows])
        away = means - means.mean()
        return away / away.std() if away.std() > 1e-9 else 0 * away

    score = standard(risk) + penalty * standard(energies)
    return dict(zip(rows, score, strict=True))


def by_risk(energies, risk, penalty, num_steps=None):
    """The rule on its own: what it does not look at is left out."""
    horizon = energies.shape[1]
    seen = Candidates(
        energies=energies,
        reward=None,
        cost=None,
        risk=risk,
        level=None,
        cost_limits=None,
        num_steps=horizon if num_steps is None else num_steps,
        counts=jnp.ones(horizon, bool),
        is_valid=jnp.isfinite(energies).all(axis=1),
    )
    config = dataclasses.replace(CONFIG.sas, risk_penalty=penalty)
    return least_risk(None, seen, config)


@pytest.mark.parametrize("num_steps", [None, 4])
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_selection_on_random_tables(penalty, num_steps):
    rng = np.random.default_rng(3)
    energies = rng.normal(size=(300, 5, 7)).astype(np.float32) * 10
    risk = rng.uniform(size=(300, 5, 7)).astype(np.float32)
    spoilt = rng.uniform(size=(300, 5)) < 0.3
    energies[spoilt, 3] = np.nan
    risk[rng.uniform(size=(300, 5)) < 0.1, 2] = np.inf
    energies[0], risk[1] = np.nan, np.nan

    @jax.jit
    @jax.vmap
    def select(e, r):
        return by_risk(e, r, penalty, num_steps)

    found = jax.device_get(select(energies, risk))
    assert not found.is_valid[0] and not found.is_valid[1]
    for i in range(300):
        scores = transcribe(energies[i], risk[i], penalty, num_steps)
        assert found.is_valid[i] == bool(scores)
        if not scores:
            continue
        # Two candidates that energy and risk order differently are equally good.
        index, score = int(found.index[i]), min(scores.values())
        assert scores[index] - score < 1e-5
        assert found.peak[i] == energies[i, index].argmax()
        assert found.level[i] == energies[i, index].max()
        np.testing.assert_allclose(found.score[i], score, atol=1e-4)


def test_equal_candidates_go_to_the_first():
    chosen = by_risk(jnp.ones((4, 3)), jnp.full((4, 3), 0.5), 1.0)
    assert (int(chosen.index), float(chosen.score)) == (0, 0.0)


def test_gate_on_literals():
    nan = np.nan
    risk = np.float32(
        [[0.2, 0.1], [0.4, 0.1], [0.4, 0.9], [nan, 0.9], [nan, nan], [0.3, 0.1]]
    )
    level = np.float32([0.3, 0.3, 0.3, 0.3, 0.3, 0.3])
    assert gate(risk, level).tolist() == [0, 1, 0, 1, 0, 0]
    assert gate(risk, jnp.ones(6)).tolist() == [0, 0, 0, 1, 0, 0]


class TestGateEverywhere(chex.TestCase):
    """The gate on literals: with jit and without, on the device and on the host."""

    @chex.variants(
        with_jit=True, without_jit=True, with_device=True, without_device=True
    )
    def test_a_risky_first_choice_gives_way_where_the_row_is_gated(self):
        mean = np.float32([[0.1, 0.0], [0.9, 0.0], [0.9, 0.0]])
        observed = Observed(mean=mean, log_std=np.zeros_like(mean), ring=(), pending=())
        noise = np.float32([[[-0.5, 0], [-0.7, 0]]] * 3)
        run = self.variant(
            lambda variables, observed, given: pass_gate(
                TOY, CONFIG.sas, variables, observed, **given
            )
        )
        given = {
            "obs": np.zeros((3, 5), np.float32),
            "first": mean,
            "noise": noise,
            "cost_limit": np.full(3, 0.3, np.float32),
            "is_gated": np.array([True, True, False]),
        }
        chosen, is_other = run({"sign": np.float32(1)}, observed, given)
        np.testing.assert_allclose(chosen[:, 0], [0.1, 0.2, 0.9], rtol=1e-6)
        assert np.asarray(is_other).tolist() == [False, True, False]


class Runner:
    """A policy of some variants, compiled once."""

    def __init__(self, variants, **changes):
        settings = dataclasses.replace(CONFIG.sas, **changes)
        config, self.spec = dataclasses.replace(CONFIG, sas=settings), make_spec()
        self.variants, self.count = variants, len(variants) * EPISODES
        self.variables = make_variables(config, self.spec)
        self.policy = aligned_policy.make_policy(
            sequence.make_sequence_model(config, self.spec),
            settings,
            variants=variants,
            horizon=6,
            target_return=5.0,
            risk_model=TOY,
            episode_steps=20,
        )
        self.start = jax.jit(self.policy.initial_carry, static_argnames="obs_dim")
        self.begin = jax.jit(chex.assert_max_traces(self.policy.begin, n=1))
        self.act = jax.jit(chex.assert_max_traces(self.policy.act, n=1))

    def run(self, limit, *, sign=1.0, steps=4):
        """Actions `[T, V, E, A]`, and the carries after begin and at the end."""
        rows = Rows(
            cost_limit=np.full(self.count, limit, np.float32),
            episode_seed=np.tile(
                np.arange(EPISODES, dtype=np.uint32), len(self.variants)
            ),
        )
        variables = self.variables | {"sign": jnp.float32(sign)}
        key = jax.random.key(1)
        carry = self.start(variables, rows, key, obs_dim=self.spec.obs_dim)
        rng, actions = np.random.default_rng(5), []
        for t in range(steps):
            obs = rng.normal(size=(EPISODES, self.spec.obs_dim)).astype(np.float32)
            obs[:, 4] = 7.0
            obs = np.tile(obs, (len(self.variants), 1))
            zeros = np.zeros(self.count, np.float32)
            ts = TimeStep(obs, zeros, zeros, np.full(self.count, t == 0))
            if t == 0:
                carry = begun = self.begin(variables, carry, ts, key)
            action, carry = self.act(variables, carry, ts, key)
            actions.append(np.asarray(action).reshape(-1, EPISODES, action.shape[-1]))
        return np.stack(actions), begun, carry

    def by_variant(self, x):
        return np.asarray(x).reshape(len(self.variants), EPISODES, *x.shape[1:])


@pytest.fixture(scope="module")
def gated():
    return Runner(("none", "sas", "gate", "gate_sas"))


@pytest.mark.slow
def test_the_gate_changes_too_risky_actions_only(gated):
    actions, _, carry = gated.run(-0.7)
    plain, _, passed, _ = actions[0]  # the first step: the same state for both
    is_fine = plain[:, 0] <= -0.7
    assert is_fine.any() and not is_fine.all()
    np.testing.assert_array_equal(passed[is_fine], plain[is_fine])
    assert (passed[~is_fine, 0] < plain[~is_fine, 0]).any()
    assert (passed[:, 0] <= plain[:, 0]).all()
    known = gated.policy.diagnostics(carry)
    count = gated.by_variant(known["num_gated"])
    assert (count[:2] == 0).all() and (count[2:].sum(1) > 0).all()


def test_a_gate_that_accepts_everything_is_none(gated):
    actions, _, carry = gated.run(2.0)
    np.testing.assert_array_equal(actions[:, 0], actions[:, 2])
    np.testing.assert_array_equal(actions[:, 1], actions[:, 3])
    assert np.asarray(carry.num_gated).sum() == 0


@pytest.mark.slow
def test_a_gate_leaves_other_variants_alone(gated):
    beside, *_ = gated.run(0.1)
    alone, *_ = Runner(("none", "sas")).run(0.1)
    np.testing.assert_allclose(beside[:, :2], alone, atol=2e-6)


def test_gate_sas_has_the_prompt_of_sas(gated):
    _, _, carry = gated.run(0.1)
    obs = gated.by_variant(carry.prompt.segment.obs)
    np.testing.assert_array_equal(obs[1], obs[3])
    present = gated.by_variant(carry.prompt.is_present)
    assert present[:, 0].tolist() == [False, True, False, True]


@pytest.fixture(scope="module")
def critical():
    return Runner(("critic",), realign_every=2, risk_penalty=0.0)


@pytest.mark.slow
def test_the_critic_chooses_the_least_risky_imaginations(critical):
    """In both loops, by the risk of what was imagined there."""
    obs = np.float32([1, 2, 3, 4, 7])
    align = jax.jit(critical.policy.align_episode)
    keys = jax.random.split(jax.random.key(3), 4)
    chosen = []
    for key, sign in itertools.product(keys, (1.0, -1.0)):
        variables = critical.variables | {"sign": jnp.float32(sign)}
        found = align(variables, key, obs, jnp.ones(1))
        first, second = found.first_choices["critic"], found.second_choices["critic"]
        for loop, choice in ((found.first, first), (found.second["risk"], second)):
            risk = sign * np.asarray(loop.outputs.action)[..., 0].mean(1)
            assert int(choice.selection.index) == int(risk.argmin())
            # Whole windows, and not the first step, whose density is the marginal's.
            peak = 1 + np.asarray(loop.energies)[int(risk.argmin()), 1:4].argmax()
            assert int(choice.selection.peak) == peak
        chosen.append(int(first.selection.index))
    assert chosen[::2] != chosen[1::2]


@pytest.mark.slow
def test_the_critic_chooses_again_in_flight(critical):
    prompts = []
    for sign in (1.0, -1.0):
        _, begun, carry = critical.run(0.0, sign=sign)
        assert (np.asarray(carry.num_realigned) == 1).all()
        assert np.asarray(carry.prompt.is_present).all()
        prompts += [np.asarray(c.prompt.segment.action) for c in (begun, carry)]
    for one, other in itertools.combinations(prompts, 2):
        assert np.abs(one - other).max(axis=(1, 2)).max() > 1e-3


@pytest.mark.parametrize("level", [-2.0, 0.3, 2.0])
def test_a_level_of_ones_own_comes_before_the_threshold(level):
    rng = np.random.default_rng(0)
    mean, first = rng.normal(size=(2, 6, 2)).astype(np.float32)
    observed = Observed(mean, np.zeros((6, 2), np.float32), None, None)
    noise = rng.normal(size=(6, 4, 2)).astype(np.float32)
    taken, is_other = pass_gate(
        TOY,
        dataclasses.replace(CONFIG.sas, gate_level=level),
        {"sign": 1.0},
        observed,
        obs=jnp.zeros((6, 3)),
        first=jnp.asarray(first),
        noise=jnp.asarray(noise),
        cost_limit=jnp.full(6, 0.9),
        is_gated=jnp.arange(6) < 5,
    )
    for row in range(6):
        every = np.concatenate([first[row][None], mean[row] + noise[row]])
        risks = np.clip(every[:, 0], -1, 1)
        best = int(risks.argmin()) if row < 5 and risks[0] > level else 0
        np.testing.assert_allclose(taken[row], every[best], rtol=1e-6)
        assert bool(is_other[row]) == (best > 0)


@pytest.mark.parametrize("variant", ["critic", "gate", "gate_sas", "gate_critic"])
def test_variants_that_need_a_critic_say_so(variant):
    with pytest.raises(UserError, match=f"{variant} needs a cost critic"):
        aligned_policy.make_policy(
            sequence.make_sequence_model(CONFIG, make_spec()),
            CONFIG.sas,
            variants=(variant,),
            horizon=6,
            target_return=5.0,
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gate_actions": 0}, "gate_actions must be >= 1"),
        ({"risk_penalty": -1.0}, "risk_penalty must be >= 0"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(CONFIG.sas, **change)
