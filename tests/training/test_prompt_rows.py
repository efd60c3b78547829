"""Prompts in training: which segments, what rows with and without one see."""

import dataclasses

import jax
import numpy as np
import pytest

from sas_jax import learners
from sas_jax.data import device_rows
from sas_jax.data import spec as spec_lib
from sas_jax.errors import UserError
from sas_jax.experiment import PolicyConfig, make_model
from sas_jax.models import losses
from sas_jax.policies import cached
from sas_jax.types import PromptRows
from tests.helpers.histories import draw_history
from tests.helpers.model_fixtures import (
    make_config,
    make_episodes,
    make_spec,
    make_variables,
)

LENGTHS = (7, 14, 2, 30)
ROW, LENGTH, DRAWS = 6, 3, 6000


@pytest.fixture(scope="module")
def drawn():
    """Rows of 6 steps with prompts of 3: data, plain rows, rows, episode, start."""
    episodes = make_episodes(LENGTHS)
    data = device_rows.to_device(episodes, spec_lib.from_episodes(episodes))

    def sample(prompting):
        return jax.device_get(
            jax.jit(
                lambda data: device_rows.sample(
                    data,
                    jax.random.key(0),
                    batch_rows=DRAWS,
                    row_length=ROW,
                    prompting=prompting,
                )
            )(data)
        )

    plain, batch = sample(None), sample(device_rows.Prompting(0.7, LENGTH, 2))
    where = (np.asarray(data.obs)[None] == batch.obs[:, :1]).all(-1).argmax(1)
    episode = np.searchsorted(np.asarray(data.starts), where, side="right") - 1
    return data, plain, batch, episode, where - np.asarray(data.starts)[episode]


def test_prompts_leave_the_rows_as_they_are(drawn):
    _, plain, batch, _, _ = drawn
    bare = dataclasses.replace(batch, prompt=None)
    jax.tree.map(np.testing.assert_array_equal, bare, plain)
    assert plain.prompt is None and batch.prompt.window == 2


def test_segments_of_the_episode_outside_the_row(drawn):
    """With the wanted probability where there is room, all of them alike."""
    data, _, batch, episode, start = drawn
    prompt, length = batch.prompt, np.array(LENGTHS)[episode]
    first = prompt.timestep[:, 0]
    has = prompt.is_present
    steps = first[:, None] + np.arange(LENGTH)
    np.testing.assert_array_equal(prompt.timestep[has], steps[has])
    before, after = first + LENGTH <= start, first >= start + ROW
    assert (before | after)[has].all()
    assert (first + LENGTH <= length)[has].all()
    entries = np.asarray(data.starts)[episode][:, None] + steps
    for name in ("obs", "action", "return_to_go", "cost_to_go"):
        expected = np.asarray(getattr(data, name))[entries[has]]
        np.testing.assert_array_equal(getattr(prompt, name)[has], expected)
    # The short episodes leave no room beside the row, the two long ones do.
    assert not has[episode == 2].any()
    room = (episode == 3) | ((episode == 1) & ((start >= 3) | (start <= 5)))
    share = has[room].mean()
    assert abs(share - 0.7) < 4 * np.sqrt(0.7 * 0.3 / room.sum())
    # Row at step 12 of 30: starts 0 .. 9 before it and 18 .. 27 behind it.
    chosen = first[has & (episode == 3) & (start == 12)]
    counts = np.bincount(chosen, minlength=28)
    allowed = np.r_[0:10, 18:28]
    assert counts.sum() == counts[allowed].sum() > 50
    expected = counts.sum() / 20
    assert np.square(counts[allowed] - expected).sum() / expected < 45.3  # 0.999, 19


def test_a_prompt_of_fragments_has_as_many_segments(drawn):
    """Independent ones, as in acting; one fragment is the prompt of before."""
    data, _, batch, episode, start = drawn

    def sample(fragments):
        prompting = device_rows.Prompting(0.7, LENGTH, 2, fragments)
        return jax.device_get(
            jax.jit(
                lambda data: (
                    device_rows.sample(
                        data,
                        jax.random.key(0),
                        batch_rows=DRAWS,
                        row_length=ROW,
                        prompting=prompting,
                    ).prompt
                )
            )(data)
        )

    jax.tree.map(np.testing.assert_array_equal, sample(1), batch.prompt)
    prompt = sample(2)
    np.testing.assert_array_equal(prompt.is_present, batch.prompt.is_present)
    has = prompt.is_present & (episode == 3)
    steps = prompt.timestep[has].reshape(-1, 2, LENGTH)
    np.testing.assert_array_equal(np.diff(steps, axis=-1), 1)
    first, at = steps[..., 0], start[has][:, None]
    assert ((first + LENGTH <= at) | (first >= at + ROW)).all()
    assert (first + LENGTH <= LENGTHS[3]).all()
    # Neither fragment tells the other's place.
    middle = start[has] == 12
    assert middle.sum() > 50
    assert abs(np.corrcoef(first[middle].T)[0, 1]) < 4 / np.sqrt(middle.sum())
    entries = np.asarray(data.starts)[3] + prompt.timestep[has]
    np.testing.assert_array_equal(prompt.obs[has], np.asarray(data.obs)[entries])


ROWS, STEPS = 3, 13
HAS_PROMPT = np.array([True, False, True])


@pytest.fixture(scope="module", params=[False, True], ids=["in place", "extra"])
def problem(request):
    """CDT, K = 5, L = 2; rows of 13 steps, the second without a prompt."""
    config = make_config(algo="cdt", decoder={"num_heads": 4}, sas={"prompt_length": 2})
    spec = make_spec()
    model, variables = make_model(config, spec), make_variables(config, spec)
    history = draw_history(spec, (ROWS, STEPS))
    segment = draw_history(spec, (ROWS, 2), seed=1, first_timestep=30)

    def units(x):
        return {
            "obs": (x.obs - spec.obs_mean) / spec.obs_std,
            "action": x.action,
            "return_to_go": x.return_to_go / spec.return_scale,
            "cost_to_go": x.cost_to_go / spec.cost_scale,
            "timestep": x.timestep,
        }

    window = 5 if request.param else 3
    prompt = PromptRows(**units(segment), is_present=HAS_PROMPT, window=window)
    rows = units(history)

    @jax.jit
    def forward(rows, prompt):
        """Mean and log-std of the actions `[B, W, A]`, z of the predictions."""

        def run(model):
            is_valid = np.ones((ROWS, STEPS), bool)
            z_state, z_action = model.hidden(
                **rows, is_valid=is_valid, train=False, prompt=prompt
            )
            targets = [rows[k] for k in ("return_to_go", "cost_to_go", "timestep")]
            actions = model.action_distribution(z_state, rows["obs"], *targets)
            return actions, z_action

        return model.apply({"params": variables["params"]}, method=run)

    return config, spec, model, variables, history, segment, rows, prompt, forward


@pytest.mark.slow
def test_training_sees_what_acting_with_the_pinned_prompt_sees(problem):
    config, spec, net, variables, history, segment, rows, prompt, forward = problem
    place = "beside" if prompt.window == 5 else "pinned"
    model = cached.make(net, spec, prompt_length=2, prompt_place=place)

    @jax.jit
    def act(variables, history, segment):
        state = model.start(
            variables,
            jax.random.split(jax.random.key(0), ROWS),
            history.obs[:, 0],
            history.return_to_go[:, 0],
            history.cost_to_go[:, 0],
            np.where(HAS_PROMPT, model.prompt_window, model.context),
        )
        encode = jax.vmap(model.encode_prompt, in_axes=(None, 0, 0))
        pinned = encode(variables, segment, HAS_PROMPT)

        def body(state, t):
            state = state.replace(
                obs=model.standardise(history.obs[:, t]),
                return_to_go=history.return_to_go[:, t],
                cost_to_go=history.cost_to_go[:, t],
            )
            seen = model.observe(variables, state, pinned)
            state = model.commit(variables, state, seen, history.action[:, t], pinned)
            return state, (seen.mean, seen.log_std)

        return jax.lax.scan(body, state, np.arange(STEPS))[1]

    (mean, log_std), _ = forward(rows, prompt)
    acted = [np.moveaxis(np.asarray(x), 0, 1) for x in act(variables, history, segment)]
    np.testing.assert_allclose(mean, acted[0], atol=1e-5)
    np.testing.assert_allclose(log_std, acted[1], atol=1e-5)


def test_rows_without_a_prompt_see_none(problem):
    *_, rows, prompt, forward = problem
    (mean, _), z = forward(rows, prompt)
    (bare, _), z_bare = forward(rows, None)
    np.testing.assert_allclose(mean[1], bare[1], atol=1e-6)
    np.testing.assert_allclose(z[1], z_bare[1], atol=2e-6)
    assert (np.abs(mean - bare)[HAS_PROMPT].max((1, 2)) > 1e-4).all()


@pytest.mark.slow
def test_nothing_comes_from_the_future_or_from_other_rows(problem):
    """What each output depends on, by its gradient: the prompt of its own row, and its
    own step and those before within the window that the prompt leaves.
    """
    *_, rows, prompt, forward = problem
    depth, step = 2, 9

    def output(row_obs, prompt_obs):
        (mean, _), z = forward(rows | {"obs": row_obs}, prompt.replace(obs=prompt_obs))
        return mean[0, step].sum() + z[0, step].sum()

    by_row, by_prompt = jax.grad(output, argnums=(0, 1))(rows["obs"], prompt.obs)
    by_row, by_prompt = (np.abs(x).max(-1) for x in (by_row, by_prompt))
    assert (by_prompt[0] > 0).all() and not by_prompt[1:].any()
    assert not by_row[1:].any() and not by_row[0, step + 1 :].any()
    # Two layers of a window of w steps reach back 2 (w - 1) steps.
    reach = depth * (prompt.window - 1)
    expected = np.arange(STEPS) >= step - reach
    np.testing.assert_array_equal(by_row[0, : step + 1] > 0, expected[: step + 1])


@pytest.mark.slow
def test_the_loss_reaches_the_prompts_tokens_through_the_rows_with_one():
    config, spec = make_config(decoder={"dropout": 0.0, "depth": 1}), make_spec()
    model, variables = make_model(config, spec), make_variables(config, spec)
    data = device_rows.to_device(make_episodes(), spec)
    batch = jax.jit(
        lambda data: device_rows.sample(
            data,
            jax.random.key(3),
            batch_rows=8,
            row_length=6,
            prompting=device_rows.Prompting(0.5, 2, 3),
        )
    )(data)

    @jax.jit
    def gradient(obs):
        def loss(obs):
            prompt = batch.prompt.replace(obs=obs)
            return losses.loss(
                model,
                variables["params"],
                variables["variances"],
                batch.replace(prompt=prompt),
                jax.random.key(0),
                0,
            )[0]

        return jax.grad(loss)(obs)

    found = np.abs(gradient(batch.prompt.obs)).max((1, 2)) > 0
    is_present = np.asarray(batch.prompt.is_present)
    np.testing.assert_array_equal(found, is_present)
    assert 0 < is_present.sum() < 8


def test_a_prompt_needs_room():
    config = make_config(sas={"prompt_length": 5})
    policy = PolicyConfig(prompt_prob=0.1)
    with pytest.raises(UserError, match="leaves no room in a context of 5"):
        learners.check(dataclasses.replace(config, policy=policy))
    sas = dataclasses.replace(config.sas, prompt_place="beside")
    wide = dataclasses.replace(config, policy=policy, sas=sas)
    short = make_config(sas={"prompt_length": 2})
    short = dataclasses.replace(short, policy=PolicyConfig(prompt_prob=0.5))
    assert short.prompting() == device_rows.Prompting(0.5, 2, 3)
    assert wide.prompting() == device_rows.Prompting(0.1, 5, 5)
    sas = dataclasses.replace(short.sas, prompt_length=1, fragments=2)
    pieces = dataclasses.replace(short, sas=sas)
    assert pieces.prompting() == device_rows.Prompting(0.5, 1, 3, fragments=2)
