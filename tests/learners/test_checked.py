"""What an algorithm from outside returns is looked at, and the culprit is named."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import learners
from sas_jax.errors import UserError
from sas_jax.learners import checked, memoryless
from sas_jax.learners.algorithm import Algorithm
from sas_jax.types import (
    Batch,
    Learner,
    LoneSteps,
    PromptRows,
    Rows,
    TimeStep,
    TrainState,
    TransitionBatch,
)
from tests.helpers.model_fixtures import make_spec

SPEC = make_spec()
COUNT, OBS, ACTION = 3, SPEC.obs_dim, SPEC.action_dim
KEY = jax.random.key(0)
STATE = TrainState(
    step=jnp.zeros((), jnp.int32),
    key=KEY,
    params={"w": jnp.zeros(2)},
    opt_state=(),
    extra=(),
)
TRANSITIONS = TransitionBatch(
    obs=np.zeros((COUNT, OBS)),
    action=np.zeros((COUNT, ACTION)),
    reward=np.zeros(COUNT),
    cost=np.zeros(COUNT),
    next_obs=np.zeros((COUNT, OBS)),
    is_terminal=np.zeros(COUNT, bool),
    is_timeout=np.zeros(COUNT, bool),
)
PROMPT = PromptRows(
    obs=np.zeros((COUNT, 4, OBS)),
    action=np.zeros((COUNT, 4, ACTION)),
    return_to_go=np.zeros((COUNT, 4)),
    cost_to_go=np.zeros((COUNT, 4)),
    timestep=np.zeros((COUNT, 4), np.int32),
    is_present=np.ones(COUNT, bool),
    window=2,
)
BATCH = Batch(
    obs=np.zeros((COUNT, 6, OBS)),
    action=np.zeros((COUNT, 5, ACTION)),
    return_to_go=np.zeros((COUNT, 6)),
    cost_to_go=np.zeros((COUNT, 6)),
    cost=np.zeros((COUNT, 5)),
    timestep=np.zeros((COUNT, 5), np.int32),
    is_valid=np.ones((COUNT, 5), bool),
    prompt=PROMPT,
    lone=LoneSteps(next_obs=np.zeros((COUNT, OBS)), cost=np.zeros(COUNT)),
)
ROWS = Rows(
    cost_limit=np.zeros(COUNT),
    episode_seed=np.zeros(COUNT, np.uint32),
    target_return=np.zeros(COUNT),
)
STEP = TimeStep(
    obs=np.zeros((COUNT, OBS)),
    reward=np.zeros(COUNT),
    cost=np.zeros(COUNT),
    is_first=np.ones(COUNT, bool),
    is_running=np.ones(COUNT, bool),
)
GOOD = Learner(
    init=lambda key, limit: STATE,
    sample=lambda data, key, state: data,
    update=lambda state, batch: (state, {"loss": jnp.zeros(())}),
    validate=lambda state, batch, key: {"loss": jnp.zeros(())},
)


def looked_at(**changed) -> Learner:
    return checked.checked_learner(GOOD._replace(**changed), "mine")


def with_state(**changed):
    return {"update": lambda state, batch: (state.replace(**changed), {})}


def test_what_fits_passes_through():
    learner = looked_at()
    assert learner.init(KEY, 0.0) is STATE
    for batch in (
        BATCH,
        BATCH.replace(prompt=None, lone=None),
        TRANSITIONS,
        "any of its own",
    ):
        assert learner.sample(batch, KEY, STATE) is batch
    state, metrics = learner.update(STATE, TRANSITIONS)
    assert state is STATE and metrics.keys() == {"loss"}
    assert learner.validate(STATE, TRANSITIONS, KEY).keys() == {"loss"}


def test_lanes_are_looked_at_one_by_one():
    learner = looked_at()
    states = jax.vmap(learner.init)(jax.random.split(KEY, 2), jnp.zeros(2))
    found, _ = jax.vmap(learner.update, (0, None))(states, TRANSITIONS)
    chex.assert_trees_all_equal_shapes_and_dtypes(found, states)


@pytest.mark.parametrize(
    "changed, call, message",
    [
        (
            {"init": lambda key, limit: STATE.replace(step=jnp.zeros(1, jnp.int32))},
            lambda x: x.init(KEY, 0.0),
            r"init of algo 'mine' returned step of shape \(1,\); expected \(\)",
        ),
        (
            {"init": lambda key, limit: {"w": 1}},
            lambda x: x.init(KEY, 0.0),
            "init of algo 'mine' returned dict without step; expected a TrainState",
        ),
        (
            with_state(params={"w": jnp.zeros(3)}),
            lambda x: x.update(STATE, None),
            r"update of algo 'mine' returned state.params\['w'\] of shape \(3,\) and "
            r"type float32; expected of shape \(2,\) and type float32",
        ),
        (
            with_state(step=jnp.zeros(())),
            lambda x: x.update(STATE, None),
            r"update of algo 'mine' returned state.step of shape \(\) and type float32",
        ),
        (
            with_state(params={}),
            lambda x: x.update(STATE, None),
            r"update of algo 'mine' returned state.params\['w'\] left out; expected of",
        ),
        (
            with_state(extra={"more": jnp.zeros(())}),
            lambda x: x.update(STATE, None),
            r"state.extra\['more'\] of shape \(\) .*; expected no such leaf",
        ),
        (
            with_state(extra=[]),
            lambda x: x.update(STATE, None),
            "update of algo 'mine' returned state of another structure",
        ),
        (
            {"update": lambda state, batch: state},
            lambda x: x.update(STATE, None),
            "update of algo 'mine' returned TrainState; expected a state and metrics",
        ),
        (
            {"update": lambda state, batch: (state, {"loss": jnp.zeros(3)})},
            lambda x: x.update(STATE, None),
            r"update of algo 'mine' returned metric 'loss' of shape \(3,\); expected",
        ),
        (
            {"validate": lambda state, batch, key: jnp.zeros(())},
            lambda x: x.validate(STATE, None, KEY),
            "validate of algo 'mine' returned metrics of type .*; expected a dict of",
        ),
    ],
)
def test_a_learner_that_returns_something_else_is_named(changed, call, message):
    with pytest.raises(UserError, match=message):
        call(looked_at(**changed))


PARTS = {id(BATCH.prompt): "prompt", id(BATCH.lone): "lone"}


@pytest.mark.parametrize(
    "batch", [BATCH, TRANSITIONS, PROMPT, BATCH.lone], ids=lambda x: type(x)
)
def test_every_field_of_a_batch_is_looked_at(batch):
    """One field after the other gets a row too many."""
    names = [f.name for f in dataclasses.fields(batch)]
    for name in set(names) - {"prompt", "lone", "window"}:
        value = getattr(batch, name)
        wrong = batch.replace(**{name: np.concatenate([value, value[:1]])})
        if part := PARTS.get(id(batch)):
            wrong = BATCH.replace(**{part: wrong})
        with pytest.raises(UserError, match=r"^sample of algo 'mine' returned .*4"):
            looked_at().sample(wrong, KEY, STATE)


def policy(act=None, carry=()):
    act = act or (lambda variables, obs: jnp.zeros((len(obs), ACTION)))
    plain = memoryless.make_policy(SPEC, act)
    plain = plain._replace(initial_carry=lambda variables, rows, key: carry)
    return checked.checked_policy(plain, SPEC, "mine")


def test_a_policy_that_fits_acts():
    mine = policy()
    assert mine.initial_carry({}, ROWS, KEY) == ()
    assert mine.initial_carry({}, ROWS.replace(target_return=None), KEY) == ()
    assert mine.begin({}, (), STEP, KEY) == ()
    action, _ = mine.act({}, (), STEP.replace(is_running=None), KEY)
    assert action.shape == (COUNT, ACTION)


def test_actions_and_carries_of_another_shape_are_named():
    flat = policy(lambda variables, obs: jnp.zeros(ACTION))
    with pytest.raises(UserError, match=r"act of algo 'mine' returned action of shape"):
        flat.act({}, (), STEP, KEY)
    lost = policy(carry={"h": np.zeros((2, 5)), "t": np.zeros(())})
    with pytest.raises(UserError, match=r"returned carry\['h'\] of shape \(2, 5\)"):
        lost.initial_carry({}, ROWS, KEY)
    plain = memoryless.make_policy(SPEC, lambda known, obs: jnp.zeros((COUNT, ACTION)))
    grows = plain._replace(
        act=lambda known, carry, ts, key: (plain.act(known, (), ts, key)[0], carry[:1])
    )
    grows = checked.checked_policy(grows, SPEC, "mine")
    with pytest.raises(UserError, match=r"act of algo 'mine' returned carry of shape"):
        grows.act({}, jnp.zeros(COUNT), STEP, KEY)


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(TimeStep)])
@pytest.mark.parametrize("function", ["begin", "act"])
def test_every_field_of_a_time_step_is_looked_at(name, function):
    wrong = STEP.replace(**{name: getattr(STEP, name)[:1]})
    with pytest.raises(UserError, match=f"^{function} of algo 'mine' was given"):
        getattr(policy(), function)({}, (), wrong, KEY)


def test_observations_of_another_size_are_named():
    wrong = STEP.replace(obs=np.zeros((COUNT, OBS + 1)))
    with pytest.raises(UserError, match=rf"\({COUNT}, {OBS + 1}\).*\(any, {OBS}\)"):
        policy().act({}, (), wrong, KEY)


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Rows)])
def test_every_field_of_rows_is_looked_at(name):
    wrong = ROWS.replace(**{name: np.zeros((COUNT, 1))})
    with pytest.raises(UserError, match=rf"was given {name} of shape \(3, 1\)"):
        policy().initial_carry({}, wrong, KEY)


def test_every_algorithm_is_checked_under_its_own_name():
    bc, bc_safe = learners.get("bc"), learners.get("bc_safe")
    config = bc_safe.default_config("PointGoal1")
    learner = bc_safe.make_learner(config, SPEC)
    state = learner.init(KEY, jnp.float32(20.0))
    with pytest.raises(UserError, match="update of algo 'bc_safe' returned state.par"):
        checked.checked_learner(
            learner._replace(
                update=lambda state, batch: (state.replace(params=()), {})
            ),
            config.algo,
        ).update(state, TRANSITIONS)
    again = dataclasses.replace(bc, name="other")
    assert isinstance(again, Algorithm)
    assert again.make_learner is bc.make_learner  # not wrapped twice
    wrong = STEP.replace(reward=np.zeros(2))
    with pytest.raises(UserError, match="act of algo 'bc_safe' was given reward"):
        bc_safe.make_policy(config, SPEC).act({}, (), wrong, KEY)
