"""Acting on imagination: candidates, support, choice and the loop, on known worlds."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment import plan as plan_lib
from sas_jax.alignment import sub_blocks, support
from sas_jax.alignment.config import PlanConfig, SASConfig
from sas_jax.alignment.policy import make_policy
from sas_jax.alignment.rules import RULES, Candidates
from sas_jax.errors import UserError
from sas_jax.types import Rows, StepOutput, TimeStep
from tests.helpers import corridor

PLAN = PlanConfig(num_candidates=12, horizon=15, execute=3, margin=4.0)
CONFIG = SASConfig(prompt_length=corridor.LENGTH, plan=PLAN, num_first=2, num_second=2)


def start(count, obs=(0.0, 0.0)):
    keys = jax.random.split(jax.random.key(0), count)
    obs = jnp.tile(jnp.float32(obs)[None], (count, 1))
    zeros = jnp.zeros(count)
    return corridor.MODEL.start(corridor.VARIABLES, keys, obs, zeros, zeros, 4)


def imagined(config, count=3, plan=None):
    plan = plan or plan_lib.empty(count, config, corridor.OBS, corridor.ACTIONS)
    return _imagined(plan, config, count)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _imagined(plan, config, count):
    keys = jax.random.split(jax.random.key(1), count)
    return plan_lib.imagine_candidates(
        corridor.MODEL, corridor.VARIABLES, keys, start(count), None, plan, config
    )


def test_candidate_0_is_the_policys_mean():
    found = imagined(PLAN)
    np.testing.assert_allclose(found.outputs.action[:, 0, :, 0], 0.5)
    expected = 0.5 * corridor.SPEED * np.arange(PLAN.horizon)
    np.testing.assert_allclose(
        found.outputs.obs[:, 0, :, 0], np.tile(expected, (3, 1)), rtol=1e-5, atol=1e-6
    )
    assert found.is_reference.tolist() == [True, True] + [False] * 10


@pytest.mark.slow
def test_a_push_is_one_draw_for_all_steps_and_noise_one_for_each():
    settled = dataclasses.replace(PLAN, persistence=1.0, action_scale=0.5)
    actions = np.asarray(imagined(settled).outputs.action)
    pushed = actions[:, PLAN.num_reference + 1 :]
    np.testing.assert_allclose(pushed, np.repeat(pushed[:, :, :1], 15, 2), atol=1e-6)
    assert len(np.unique(pushed[:, :, 0, 0])) == pushed[:, :, 0, 0].size
    jumpy = dataclasses.replace(PLAN, persistence=0.0, action_scale=0.2)
    draws = (np.asarray(imagined(jumpy).outputs.action)[:, 1:] - [0.5, 0.0]) / 0.2
    assert draws.std() / np.exp(-0.7) == pytest.approx(1.0, abs=0.1)
    along = np.corrcoef(draws[..., :-1, 0].ravel(), draws[..., 1:, 0].ravel())[0, 1]
    assert abs(along) < 0.15


def test_candidates_differ_by_their_actions_alone():
    """The world's noise is one stream for all candidates of a row."""
    noisy = dataclasses.replace(PLAN, world_noise=1.0)
    out = jax.device_get(imagined(noisy).outputs)
    steps = np.diff(out.obs, axis=2) - corridor.SPEED * out.action[:, :, :-1]
    np.testing.assert_allclose(steps, np.repeat(steps[:, :1], 12, 1), atol=1e-6)
    assert np.abs(steps).std() > 0.01 and np.abs(steps[0, 0] - steps[1, 0]).max() > 0.01
    quiet = jax.device_get(imagined(PLAN).outputs)
    steps = np.diff(quiet.obs, axis=2) - corridor.SPEED * quiet.action[:, :, :-1]
    np.testing.assert_allclose(steps, 0.0, atol=1e-6)


def test_a_candidate_goes_on_with_the_plan_in_hand():
    plan = plan_lib.empty(3, PLAN, corridor.OBS, corridor.ACTIONS)
    held = np.float32(np.random.default_rng(0).uniform(-1, 1, plan.action.shape))
    plan = plan.replace(
        action=jnp.asarray(held),
        age=jnp.full(3, 3),
        is_kept=jnp.array([True, True, False]),
    )
    action = np.asarray(imagined(PLAN, plan=plan).outputs.action)[:, 2]
    np.testing.assert_array_equal(action[:2, :12], held[:2, 3:])
    assert (action[:2, 12:] != held[:2, -1:]).all()
    assert np.abs(action[2, :12] - held[2, 3:]).min() > 0


def test_support_against_the_definition():
    """Peaks over whole windows after the present step; references are never out."""
    rng = np.random.default_rng(2)
    table = np.float32(rng.normal(size=(200, 6, 9)) * 5)
    table[rng.random((200, 6)) < 0.1, 4] = -np.inf
    is_reference = np.arange(6) < 2
    sas = dataclasses.replace(
        CONFIG, plan=dataclasses.replace(PLAN, margin=3.0), discount=0.9
    )
    run = jax.jit(
        jax.vmap(lambda x: support.by_energy(x, jnp.asarray(is_reference), sas)[2])
    )
    found = np.asarray(run(table))
    weights = 0.9 ** np.arange(3)
    for row, is_in in zip(table, found, strict=True):
        density = np.exp(row.astype(np.float64))
        windows = np.stack([density[:, t : t + 3] @ weights for t in range(1, 7)], 1)
        peaks = -np.log(windows).min(axis=1)
        level = peaks[:2].max() + 3.0
        expected = is_reference | (peaks <= level)
        np.testing.assert_array_equal(is_in, expected)
    assert 0.2 < found[:, 2:].mean() < 0.9


def test_without_a_margin_nobody_is_out():
    sas = dataclasses.replace(CONFIG, plan=dataclasses.replace(PLAN, margin=None))
    density = jnp.zeros((4, 9)).at[3].set(-1e6)
    assert support.by_energy(density, jnp.arange(4) < 1, sas)[2].all()


def table_of(gain, cost, limit, is_valid):
    shape = gain.shape
    return Candidates(
        energies=jnp.zeros(shape),
        reward=gain,
        cost=cost,
        risk=None,
        level=None,
        cost_limits=jnp.float32([limit]),
        num_steps=jnp.int32(shape[1] - 1),
        counts=jnp.ones(shape[1], bool),
        is_valid=is_valid,
    )


@pytest.mark.slow
def test_rules_against_plain_python():
    rng = np.random.default_rng(4)
    seen_kinds = set()
    for _ in range(200):
        gain, cost = rng.integers(0, 4, (2, 5, 4)).astype(np.float32)
        is_valid, limit = rng.random(5) < 0.8, float(rng.integers(0, 9))
        seen = table_of(gain, cost, limit, is_valid)
        total = [
            (float(g[:3].sum()), float(c[:3].sum()))
            for g, c in zip(gain, cost, strict=True)
        ]
        valid = [i for i in range(5) if is_valid[i]]
        for rule in ("budget", "weighted"):
            found = RULES[rule].choose(jax.random.key(0), seen, CONFIG)
            assert bool(found.is_valid) == bool(valid)
            if not valid:
                continue
            spare = limit if rule == "budget" else 0.0

            def worth(i, total=total, spare=spare):
                return total[i][0] - 3 * max(total[i][1] - spare, 0.0), -i

            best = max(valid, key=worth)
            seen_kinds.add((rule, total[best][1] <= limit))
            assert int(found.index) == best
    assert len(seen_kinds) == 4


@pytest.mark.slow
def test_the_budgets_share_falls_evenly_on_what_is_left():
    """9 of budget, 30 steps left, a horizon of 15: a plan may cost 4.5 x slack."""
    allowed = []

    def spy(key, seen, config):
        allowed.append(seen.cost_limits)
        return RULES["budget"].choose(key, seen, config)

    outputs = imagined(PLAN, 1).outputs
    outputs = jax.tree.map(lambda x: x[0], outputs)
    reference = jnp.arange(12) < 2
    sas = dataclasses.replace(CONFIG, plan=dataclasses.replace(PLAN, slack=2.0))
    due = plan_lib.Due(jax.random.key(0), jnp.int32(30), jnp.float32(9.0))
    held = dict(RULES)
    RULES["spy"] = RULES["budget"]._replace(choose=spy)
    try:
        for budget, steps in ((9.0, 30), (9.0, 10), (-3.0, 30)):
            due = due._replace(budget=jnp.float32(budget), num_steps=jnp.int32(steps))
            plan_lib.choose("spy", jax.random.key(0), outputs, reference, due, sas)
    finally:
        RULES.clear()
        RULES.update(held)
    np.testing.assert_allclose(np.ravel(allowed), [9.0, 18.0, 0.0])


class Runner:
    """Episodes in the corridor, whose true world is the model's own, without noise."""

    def __init__(self, variants, config=CONFIG, episodes=6):
        self.variants, self.episodes = variants, episodes
        self.policy = make_policy(
            corridor.MODEL,
            config,
            variants=variants,
            horizon=6,
            target_return=0.0,
            episode_steps=30,
        )
        chex.clear_trace_counter()
        self.act = jax.jit(chex.assert_max_traces(self.policy.act, n=1))
        self.begin = jax.jit(chex.assert_max_traces(self.policy.begin, n=1))

    def run(self, limit=0.0, *, steps=30, variables=None, gain=1.0, restarts=()):
        """Actions, costs `[T, V, E]`, and the diagnostics at the end."""
        variables = variables or corridor.VARIABLES
        rows, key = self.episodes * len(self.variants), jax.random.key(3)
        given = Rows(
            cost_limit=jnp.full(rows, limit),
            episode_seed=jnp.tile(
                jnp.arange(self.episodes, dtype=jnp.uint32), len(self.variants)
            ),
        )
        carry = self.policy.initial_carry(variables, given, key, obs_dim=2)
        obs, cost = np.zeros((rows, 2), np.float32), np.zeros(rows, np.float32)
        actions, costs = [], []
        for t in range(steps):
            first = np.zeros(rows, bool) | (t == 0)
            for step, episode in restarts:
                if t == step:
                    first[episode :: self.episodes] = True
                    obs[episode :: self.episodes] = 0.0
            ts = TimeStep(obs.copy(), np.zeros(rows, np.float32), cost, first)
            if t == 0:
                carry = self.begin(variables, carry, ts, key)
            action, carry = self.act(variables, carry, ts, key)
            obs = obs + np.float32(gain * corridor.SPEED) * np.asarray(action)
            cost = np.asarray(corridor.cost_at(obs))
            actions.append(np.asarray(action))
            costs.append(cost)
        shape = (steps, len(self.variants), self.episodes)
        known = {
            k: np.asarray(v).reshape(*shape[1:], *np.shape(v)[1:])
            for k, v in self.policy.diagnostics(carry).items()
        }
        actions = np.stack(actions).reshape(*shape, -1)
        return actions, np.stack(costs).reshape(shape), known, carry


@functools.cache
def runner():
    return Runner(("none", "plan", "plan_rand", "plan_sas"))


def test_choosing_by_imagined_cost_saves_it():
    """Against the policy and against plans that nobody chose, at equal speed."""
    actions, costs, known, _ = runner().run()
    none, plan, rand, both = costs.sum(axis=(0, 2)) / 6
    assert plan < 0.4 * none and plan < 0.6 * rand and both < 0.4 * none
    assert actions[:, 1, :, 0].mean() > 0.25  # it still goes to the right
    assert (known["num_plans"][0] == 0).all() and (known["num_plans"][1] == 10).all()
    assert (known["plan_fallback"] == 0).all()
    # The model is the world: what was expected is what came.
    np.testing.assert_allclose(
        known["plan_expected"][1], known["plan_realised"][1], atol=1.1
    )
    assert (known["plan_error"][1:] < 1e-3).all()
    assert 0 < known["plan_out"][1].mean() < 1


def test_a_larger_budget_is_spent():
    few, many = (runner().run(limit)[1][:, 1].sum(axis=0).mean() for limit in (0, 30))
    assert many > few + 1


def test_where_no_candidate_costs_the_policy_acts():
    """Before the disc comes into reach, and when it is behind; not on fallback."""
    actions, _, known, _ = runner().run()
    own = (actions[:, 1] == actions[:, 0]).all(axis=-1)
    assert 0 < known["plan_idle"][1].mean() < 1
    np.testing.assert_allclose(own.mean(axis=0), known["plan_idle"][1], atol=1e-6)
    always = dataclasses.replace(PLAN, tolerance=None)
    run = Runner(("none", "plan"), dataclasses.replace(CONFIG, plan=always), 1).run
    actions, _, known, _ = run(steps=3)
    assert (known["plan_idle"] == 0)[1].all() and (actions[:, 1] != actions[:, 0]).all()


def test_harmless_are_plans_whose_every_candidate_is():
    cost = jnp.float32([[0.02, 0.03], [0.0, 0.1], [0.0, 0.0]])
    is_in = jnp.array([True, True, False])

    def harmless(cost, is_in, tolerance):
        config = dataclasses.replace(PLAN, tolerance=tolerance)
        return bool(plan_lib.harmless(cost, is_in, config))

    assert harmless(cost, is_in, 0.1)
    assert not harmless(cost, is_in, 0.09)
    assert not harmless(0 * cost, is_in, None)
    # All are out: nothing is known, and that is a fallback.
    assert not harmless(0 * cost, jnp.zeros(3, bool), 0.1)


@pytest.mark.slow
def test_plans_keep_to_the_data_where_the_energy_is_asked():
    wide = dataclasses.replace(CONFIG, plan=dataclasses.replace(PLAN, margin=None))
    loose, tight = (
        np.abs(np.cumsum(Runner(("plan",), config).run()[0][..., 1], axis=0)).max()
        for config in (wide, CONFIG)
    )
    assert tight < loose


def test_an_episode_does_not_depend_on_another_ones_phase():
    """Episode 1 begins anew at step 4 and is out of phase from then on."""
    actions = runner().run(steps=12)[0]
    shifted = runner().run(steps=12, restarts=((4, 1),))[0]
    others = [0, 2, 3, 4, 5]
    np.testing.assert_array_equal(actions[:, :, others], shifted[:, :, others])
    np.testing.assert_array_equal(shifted[4:, 1, 1], actions[:8, 1, 1])


@pytest.mark.slow
def test_rows_may_be_worked_off_all_at_once(monkeypatch):
    """As on an accelerator: the same plans, up to rounding."""
    few = runner().run(steps=4)
    monkeypatch.setitem(sub_blocks.SUB_BLOCK, "cpu", 2)
    pairs = Runner(("none", "plan", "plan_rand", "plan_sas")).run(steps=4)
    np.testing.assert_allclose(few[0], pairs[0], atol=1e-5)
    np.testing.assert_array_equal(few[2]["num_plans"], pairs[2]["num_plans"])


def test_a_model_of_nothing_but_nan_leaves_the_policy_alone():
    broken = {"broken": np.array(True)}
    actions, _, known, _ = runner().run(steps=7, variables=broken)
    np.testing.assert_array_equal(actions[:, 1], actions[:, 0])
    assert (known["plan_fallback"][1] == 7).all()
    assert (known["plan_out"][1] == 1).all()


@pytest.mark.slow
def test_a_model_that_foresees_worse_than_standing_still_is_not_followed():
    """The world moves the other way: it errs by twice of what moves, a share of 2/3.

    The mean of shares is no longer trusted from 1/2 on.
    """
    keep = 0.4
    plan = dataclasses.replace(PLAN, error_memory=keep)
    run = Runner(("none", "plan"), dataclasses.replace(CONFIG, plan=plan))
    actions, _, known, _ = run.run(gain=-1.0)
    shares = [2 / 3 * (1 - keep**n) for n in (1, 2)]
    assert shares[0] <= plan.max_error < shares[1]
    np.testing.assert_allclose(known["plan_error"][1], shares[1], rtol=1e-4)
    assert (known["plan_fallback"][1] == 24).all()  # all but the first two plans
    np.testing.assert_array_equal(actions[6:, 1], actions[6:, 0])


def test_one_jump_that_nobody_foresees_is_forgiven():
    """However far it goes, it counts as one plan."""
    plan = plan_lib.empty(1, PLAN, corridor.OBS, corridor.ACTIONS)
    plan = plan.replace(is_kept=jnp.array([True]), age=jnp.array([PLAN.execute]))

    def judged(plan, obs):
        return plan_lib.judged(
            plan,
            jnp.float32([obs]),
            jnp.zeros(1),
            jnp.array([True]),
            lambda x: x,
            PLAN,
        )

    after = judged(plan, [1e6, 0.0])
    np.testing.assert_allclose(after.error, 0.5 * (1 - PLAN.error_memory), rtol=1e-5)
    assert plan_lib.trusted(after, PLAN).all()
    assert judged(plan, [0.0, 0.0]).error == 0  # nothing was expected to move


def test_plans_are_executed_as_they_were_imagined():
    actions, _, _, carry = runner().run(steps=3)
    plan = np.asarray(carry.plan.action).reshape(4, 6, PLAN.horizon, -1)
    executed = np.moveaxis(actions, 0, 2)
    np.testing.assert_array_equal(plan[1, :, :3], executed[1])


def test_a_model_without_outcomes_says_what_is_missing():
    blind = corridor.MODEL._replace(advance=None)
    with pytest.raises(UserError, match="plan needs a model with 'advance'.*outcome"):
        make_policy(blind, CONFIG, variants=("plan",), horizon=6, target_return=0.0)


def test_output_type_is_what_the_model_gives():
    assert isinstance(imagined(PLAN, 1).outputs, StepOutput)
