"""Algorithm 1 in flight: what is chosen, for whom, and what the policy then sees."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment.algorithm1 import align
from sas_jax.envs.tasks import get_task
from sas_jax.learners import sequence
from sas_jax.types import Rows, TimeStep, Trajectory
from tests.helpers.histories import oracle_policy
from tests.helpers.model_fixtures import make_config, make_spec, make_variables

# One without a prompt, one of a loop, two of two; the rules are tested elsewhere.
VARIANTS = ("none", "u", "sas", "maxmax")
PROMPTED = np.array([v != "none" for v in VARIANTS])
EPISODES = 2
EVERY = 3
SAS = {"realign_every": EVERY, "num_first": 2, "num_second": 3, "horizon": 6}


class Runner:
    """One compiled policy; `run` feeds it steps and keeps every carry."""

    def __init__(self, variants=VARIANTS, **sas):
        small = {"depth": 1, "width": 8}
        self.config = make_config(decoder=small, sas=SAS | sas)
        self.spec = make_spec()
        self.variables = make_variables(self.config, self.spec)
        # Small enough that most actions are not clipped.
        policy = self.variables["params"]["policy"]
        policy["Dense_1"] = jax.tree.map(lambda x: 0.2 * x, policy["Dense_1"])
        self.variants = variants
        self.learner = sequence.make_policy(
            self.config, self.spec, variants=variants, report_limits=(5.0, 20.0)
        )
        self.start = jax.jit(self.learner.initial_carry)
        self.begin = jax.jit(self.learner.begin)
        self.traces = 0

        def act(*arguments):
            self.traces += 1
            return self.learner.act(*arguments)

        self.act = jax.jit(act)
        self.key = jax.random.key(5)

    def steps(self, count, restarts=(), stops=()):
        """`TimeStep`s by episode; restarts, stops: (step, episode) pairs."""
        copies = len(self.variants)
        for t in range(count):
            draws = [np.random.default_rng([6, e, t]) for e in range(EPISODES)]
            obs = np.stack([rng.normal(size=self.spec.obs_dim) for rng in draws])
            obs[:, 4] = 7.0
            first = [t == 0 or (t, e) in restarts for e in range(EPISODES)]
            running = [all(t < s for s, x in stops if x == e) for e in range(EPISODES)]
            yield TimeStep(
                obs=np.tile(np.float32(obs), (copies, 1)),
                reward=np.full(copies * EPISODES, 0.5, np.float32),
                cost=np.zeros(copies * EPISODES, np.float32),
                is_first=np.tile(first, copies),
                is_running=np.tile(running, copies),
            )

    def run(self, count, **events):
        """Actions `[T, V, E, A]`, the steps, and the carries before and after each."""
        seeds = np.arange(3, 3 + EPISODES, dtype=np.uint32)
        rows = Rows(
            cost_limit=np.full(len(self.variants) * EPISODES, 20.0, np.float32),
            episode_seed=np.tile(seeds, len(self.variants)),
        )
        carry = self.start(self.variables, rows, self.key)
        actions, steps, carries = [], list(self.steps(count, **events)), []
        carry = self.begin(self.variables, carry, steps[0], self.key)
        for ts in steps:
            carries.append(carry)
            action, carry = self.act(self.variables, carry, ts, self.key)
            actions.append(np.asarray(action).reshape(len(self.variants), EPISODES, -1))
        return np.stack(actions), steps, [*carries, carry]


@pytest.fixture(scope="module")
def runner():
    return Runner()


EVENTS = {"restarts": ((2, 1),)}  # the second episode begins anew at step 2


@pytest.fixture(scope="module")
def result(runner):
    return runner.run(7, **EVENTS)


def by_variant(x):
    return np.asarray(x).reshape(len(VARIANTS), EPISODES, *x.shape[1:])


def test_rows_are_due_at_their_own_time_and_no_others(result):
    """Episode 0 at its steps 3 and 6; episode 1, two steps younger, at 5."""
    _, _, carries = result
    prompts = [by_variant(c.prompt.segment.obs) for c in carries]
    origins = [by_variant(c.prompt.origin) for c in carries]
    for t in range(7):
        changed = (prompts[t + 1] != prompts[t]).any(axis=(2, 3))
        expected = np.zeros((len(VARIANTS), EPISODES), bool)
        expected[PROMPTED, 0] = t in (3, 6)
        expected[PROMPTED, 1] = t == 5
        np.testing.assert_array_equal(changed, expected, err_msg=f"step {t}")
    count = by_variant(carries[-1].num_realigned)
    np.testing.assert_array_equal(count[PROMPTED], [[2, 1]] * PROMPTED.sum())
    np.testing.assert_array_equal(count[~PROMPTED], 0)
    np.testing.assert_array_equal(origins[-1][PROMPTED, 0], 6)
    np.testing.assert_array_equal(origins[-1][PROMPTED, 1], 3)


def test_prompts_are_those_of_align_from_the_present_state(runner, result):
    """`align` on each row's own state: another program, all variants at once."""
    _, steps, carries = result
    config = runner.config
    model = sequence.make_sequence_model(config, runner.spec)
    limits = jnp.array([5.0, 20.0])

    @jax.jit
    def reference(variables, carry, ts):
        state = carry.state
        state = state.replace(
            obs=model.standardise(ts.obs),
            return_to_go=state.return_to_go - ts.reward,
            cost_to_go=state.cost_to_go - ts.cost,
            window=jnp.full_like(state.window, model.context),
        )

        def one(key, obs, row):
            key = jax.random.fold_in(jax.random.fold_in(key, 2), row.timestep[0])
            start_key, key = jax.random.split(key)
            fresh = model.start(
                variables,
                start_key[None],
                obs[None],
                row.return_to_go,
                row.cost_to_go,
                model.context,
            )
            return align(
                model,
                variables,
                key,
                row.replace(log_density=fresh.log_density),
                limits,
                config=config.sas,
                variants=VARIANTS,
                horizon=config.sas.horizon,
                max_cost=get_task("PointGoal1").max_step_cost,
            )

        rows = jax.tree.map(lambda x: x[:, None] if x.ndim else x, state)
        axes = jax.tree.map(lambda x: 0 if x.ndim else None, rows)
        found = jax.vmap(one, (0, 0, axes))(carry.keys, ts.obs, rows)
        return found.prompts, found.diagnostics

    found = reference(runner.variables, carries[6], steps[6])
    own = np.repeat(np.arange(len(VARIANTS)), EPISODES)
    prompts, diagnostics = jax.tree.map(
        lambda x: np.asarray(x)[np.arange(len(own)), own], found
    )
    after = carries[7]
    due = np.flatnonzero(np.asarray(after.num_realigned) == 2)
    assert len(due) == PROMPTED.sum()
    for got, expected in (
        (after.prompt.segment, prompts.segment),
        (after.prompt.memory, prompts.memory),
        (after.diagnostics, diagnostics),
    ):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(
                np.asarray(a)[due], b[due], rtol=1e-3, atol=1e-4
            ),
            got,
            expected,
        )
    start = np.asarray(after.prompt.segment.timestep)[due]
    assert (start >= 6).all()  # imagined time goes on from the present


def test_an_episode_does_not_depend_on_who_is_due_beside_it(runner, result):
    """Bit for bit: the other one starts anew elsewhere, or has ended; and nothing is
    traced again.
    """
    for events in ({}, {"stops": ((2, 1),)}):
        actions, _, carries = runner.run(7, **events)
        np.testing.assert_array_equal(actions[:, :, 0], result[0][:, :, 0])
        ours, theirs = (
            by_variant(c[-1].prompt.segment.obs) for c in (carries, result[2])
        )
        np.testing.assert_array_equal(ours[:, 0], theirs[:, 0])
        count = by_variant(carries[-1].num_realigned)[PROMPTED, 1]
        np.testing.assert_array_equal(count, 0 if events else 2)
    assert runner.traces == 1


@pytest.mark.slow
def test_without_due_steps_it_acts_as_a_policy_that_never_aligns_again(runner, result):
    plain = Runner(realign_every=0).run(EVERY)[0]
    np.testing.assert_array_equal(result[0][:2], plain[:2])
    np.testing.assert_array_equal(result[0][2, :, 0], plain[2, :, 0])


def test_a_model_that_blows_up_keeps_the_prompts_it_has(runner, result):
    carry = jax.tree.map(jnp.copy, result[2][3])
    params = dict(runner.variables["params"])
    transition = dict(params["transition"])
    dense = transition["decoder"]["dense"]
    last = dict(dense["Dense_1"])
    last["bias"] = np.full_like(last["bias"], np.inf)
    transition["decoder"] = {"dense": dense | {"Dense_1": last}}
    params["transition"] = transition
    variables = runner.variables | {"params": params}
    action, after = runner.act(variables, carry, result[1][3], runner.key)
    assert np.isfinite(action).all()
    assert (np.asarray(after.num_realigned) == np.asarray(carry.num_realigned)).all()
    jax.tree.map(np.testing.assert_array_equal, after.prompt, carry.prompt)
    jax.tree.map(np.testing.assert_array_equal, after.diagnostics, carry.diagnostics)


def visible(t, s, prompt_of, mode, context, length):
    """Whether real step t sees real step s, and which prompt slots."""
    origin = prompt_of(t)
    window = context - length if mode == "pinned" else context
    age = t - s
    seen = 0 <= age < window
    if mode == "sliding" and s < origin:
        seen = seen and age + length < context
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["pinned", "sliding"])
def test_acting_after_a_realignment_equals_the_full_masked_forward(mode):
    """Tokens in the order in which they came, prompts in between, one float64 pass with
    an explicit mask: at every step, past the window, through two re-alignments.
    """
    count, length, context = 11, 2, 5
    runner = Runner(
        variants=("sas",), prompt_place=mode, sample_actions=False, realign_every=4
    )
    actions, steps, carries = runner.run(count)
    per_step = 4 if runner.config.has_cost_token else 3
    for e in range(EPISODES):
        parts, kinds = [], []  # kinds: (is prompt, origin or time)
        for t in range(count):
            if t % 4 == 0:
                segment = jax.tree.map(
                    lambda x: np.asarray(x)[e],  # noqa: B023
                    carries[0 if t == 0 else t + 1].prompt.segment,
                )
                parts.append(segment)
                kinds += [(True, t)] * length
            kinds.append((False, t))
            parts.append(
                Trajectory(
                    obs=steps[t].obs[e][None],
                    action=actions[t, 0, e][None],
                    reward=np.zeros(1, np.float32),
                    cost=np.zeros(1, np.float32),
                    return_to_go=np.full(1, runner.spec.target_return - 0.5 * t),
                    cost_to_go=np.full(1, 20.0),
                    timestep=np.array([t]),
                    is_valid=np.ones(1, bool),
                )
            )
        whole = jax.tree.map(lambda *x: np.concatenate(x), *parts)
        total = len(kinds)
        allowed = np.zeros((total, total), bool)
        for q, k in np.ndindex(total, total):
            (q_prompt, q_time), (k_prompt, k_time) = kinds[q], kinds[k]
            if k > q:
                continue
            if q_prompt:
                allowed[q, k] = k_prompt and k_time == q_time
            elif k_prompt:
                slot = k - kinds.index((True, k_time))
                age = q_time - k_time + length - slot
                is_own = k_time == q_time // 4 * 4
                allowed[q, k] = is_own and (mode == "pinned" or age < context)
            else:
                allowed[q, k] = visible(
                    q_time, k_time, lambda t: t // 4 * 4, mode, context, length
                )
        mask = np.kron(allowed, np.ones((per_step, per_step), bool))
        mask &= np.tril(np.ones_like(mask))
        mean, _ = oracle_policy(
            runner.variables["params"], runner.config, runner.spec, whole, mask
        )
        real = [i for i, (is_prompt, _) in enumerate(kinds) if not is_prompt]
        expected = np.clip(mean[real], -1.0, 1.0)
        assert (np.abs(expected) < 1).mean() > 0.8
        np.testing.assert_allclose(actions[:, 0, e], expected, atol=2e-5)


@functools.cache
def line_align(num_steps, horizon):
    """`realign` of four rows on the line policy, episodes ending in `num_steps`."""
    from sas_jax.alignment.config import SASConfig
    from sas_jax.alignment.diagnostics import empty_diagnostics
    from sas_jax.alignment.in_flight import Due, realign
    from tests.helpers.line_policy import LENGTH, MODEL, encode_prompt, state_at

    variants = ("rand", "u", "sas", "uv_sum")
    config = SASConfig(num_first=4, num_second=3, prompt_length=LENGTH, horizon=12)
    states = [state_at(x) for x in (0.5, -0.4, 0.1, 0.9)]
    state = jax.tree.map(lambda *x: jnp.concatenate(x) if x[0].ndim else x[0], *states)
    zeros = Trajectory(
        obs=jnp.zeros((LENGTH, 1)),
        action=jnp.zeros((LENGTH, 1)),
        **{
            f.name: jnp.zeros(LENGTH)
            for f in dataclasses.fields(Trajectory)
            if f.name not in ("obs", "action", "timestep", "is_valid")
        },
        timestep=jnp.zeros(LENGTH, jnp.int32),
        is_valid=jnp.zeros(LENGTH, bool),
    )
    empty = encode_prompt({}, zeros, jnp.zeros((), bool))
    empty = empty.replace(origin=jnp.zeros((), jnp.int32))
    spread = functools.partial(
        jax.tree.map, lambda x: jnp.broadcast_to(x, (4, *x.shape))
    )
    due = Due(
        keys=jax.random.split(jax.random.key(1), 4),
        obs=state.x[:, None],
        limits=jnp.full((4, 1), 0.5),
        num_steps=jnp.full(4, num_steps),
    )
    variables = {"edge": jnp.float32(np.inf)}
    args = (variables, state, jnp.ones(4, bool), due, spread(empty))
    settings = {"config": config, "horizon": horizon, "max_cost": 2.0}
    found = []
    for row, variant in enumerate(variants):
        run = functools.partial(realign, MODEL, variant=variant, **settings)
        all_rows = jax.jit(run)(*args, spread(empty_diagnostics(1)))
        found.append(jax.tree.map(lambda x, row=row: x[row], all_rows))
    return jax.device_get(jax.tree.map(lambda *x: jnp.stack(x), *found))


@pytest.mark.slow
def test_steps_past_the_end_of_the_episode_do_not_count():
    """Seven steps left of a horizon of twelve: as with a horizon of seven."""
    long, short = line_align(7, 12), line_align(7, 7)
    assert long[2].all() and short[2].all()
    chosen = [1, 2, 3]  # `rand` draws its place from the same range, too
    for got, expected in zip(
        jax.tree.leaves(long[:2]), jax.tree.leaves(short[:2]), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    other = line_align(12, 12)
    same = np.isclose(other[1].level, long[1].level)[chosen]
    assert not same.all()
