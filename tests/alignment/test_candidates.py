"""Candidates of plans: what differs between them and what does not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment import candidates, support
from sas_jax.alignment import plan as plan_lib
from sas_jax.types import StepOutput
from tests.helpers import corridor
from tests.helpers.planning import CONFIG, PLAN, imagined


def test_candidate_0_is_the_policys_mean():
    found = imagined(PLAN)
    np.testing.assert_allclose(found.action[:, 0, :, 0], 0.5)
    expected = 0.5 * corridor.SPEED * np.arange(PLAN.horizon)
    np.testing.assert_allclose(
        found.obs[:, 0, :, 0], np.tile(expected, (3, 1)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.slow
def test_a_push_is_one_draw_for_all_steps_and_noise_one_for_each():
    settled = dataclasses.replace(PLAN, persistence=1.0, action_scale=0.5, push_steps=0)
    actions = np.asarray(imagined(settled).action)
    pushed = actions[:, PLAN.num_reference + 1 :]
    np.testing.assert_allclose(pushed, np.repeat(pushed[:, :, :1], 15, 2), atol=1e-6)
    assert len(np.unique(pushed[:, :, 0, 0])) == pushed[:, :, 0, 0].size
    jumpy = dataclasses.replace(PLAN, persistence=0.0, action_scale=0.2)
    draws = (np.asarray(imagined(jumpy).action)[:, 1:] - [0.5, 0.0]) / 0.2
    assert draws.std() / np.exp(-0.7) == pytest.approx(1.0, abs=0.1)
    along = np.corrcoef(draws[..., :-1, 0].ravel(), draws[..., 1:, 0].ravel())[0, 1]
    assert abs(along) < 0.15


def test_every_other_push_ends_and_the_policy_goes_on():
    """Without noise of single steps: the push for 4 steps, then the mean."""
    settled = dataclasses.replace(PLAN, persistence=1.0, action_scale=0.5, push_steps=4)
    actions = np.asarray(imagined(settled).action)
    short, whole = actions[:, 5::2], actions[:, 6::2]
    mean = actions[:, :1]
    np.testing.assert_array_equal(short[:, :, 4:], np.repeat(mean, 4, 1)[:, :, 4:])
    assert (np.abs(short - mean)[:, :, :4] > 0).all()
    assert (np.abs(whole - mean) > 0).all()


def test_candidates_differ_by_their_actions_alone():
    """The world's noise is one stream for all candidates of a row."""
    noisy = dataclasses.replace(PLAN, world_noise=1.0)
    out = jax.device_get(imagined(noisy))
    steps = np.diff(out.obs, axis=2) - corridor.SPEED * out.action[:, :, :-1]
    np.testing.assert_allclose(steps, np.repeat(steps[:, :1], 12, 1), atol=1e-6)
    assert np.abs(steps).std() > 0.01 and np.abs(steps[0, 0] - steps[1, 0]).max() > 0.01
    quiet = jax.device_get(imagined(PLAN))
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
    action = np.asarray(imagined(PLAN, plan=plan).action)[:, PLAN.num_reference]
    np.testing.assert_array_equal(action[:2, :12], held[:2, 3:])
    assert (action[:2, 12:] != held[:2, -1:]).all()
    assert np.abs(action[2, :12] - held[2, 3:]).min() > 0


def test_a_candidate_is_the_same_whichever_are_imagined_beside_it():
    """References first, the others later: what one call imagines, in two."""
    plan = plan_lib.empty(3, PLAN, corridor.OBS, corridor.ACTIONS)
    plan = plan.replace(is_kept=jnp.array([True, True, False]))
    whole = imagined(PLAN, plan=plan)
    parts = [
        imagined(PLAN, plan=plan, which=which(PLAN))
        for which in (candidates.references, candidates.others)
    ]
    assert [x.cost.shape[1] for x in parts] == [4, 8]
    together = jax.tree.map(lambda *x: np.concatenate(x, axis=1), *parts)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole, together
    )


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


def test_output_type_is_what_the_model_gives():
    assert isinstance(imagined(PLAN, 1), StepOutput)
