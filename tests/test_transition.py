"""The decoder with rings: against plain loops, and its symmetry."""

import jax
import numpy as np
import pytest

from sas_jax.transition import TransitionDecoder
from tests import dense_oracle
from tests.model_fixtures import random_params

# Three plain dimensions, then two rings of eight bins.
WIDTH, OBS, ACTION, LATENT, SIZE = 4, 19, 2, 3, 8
RINGS = ((3, SIZE), (11, SIZE))
DECODER = TransitionDecoder(
    width=WIDTH,
    obs_dim=OBS,
    action_dim=ACTION,
    hidden=(6,),
    rings=RINGS,
    ring_hidden=(5, 5),
    scale_range=2.0,
)


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(3)
    latent = rng.normal(size=(4, LATENT)).astype(np.float32)
    context = rng.normal(size=(4, WIDTH + OBS + ACTION + OBS)).astype(np.float32)
    params = random_params(DECODER, latent, context)
    run = jax.jit(
        lambda latent, context: DECODER.apply({"params": params}, latent, context)
    )
    return params, latent, context, run


def ring_oracle(p, latent, context):
    """Mean and scale of every bin `[P, 2, 8]`, bin by bin, in float64."""
    out = np.zeros((2, len(latent), 2, SIZE))
    for row, (one, vector) in enumerate(zip(latent, context, strict=True)):
        z, obs, action, change = np.split(vector, np.cumsum([WIDTH, OBS, ACTION]))
        motion = np.concatenate([one, obs[:3], action, z])
        still, ahead, aside = np.split(dense_oracle.dense(motion, p["motion"]), 3)
        for g, (first, size) in enumerate(RINGS):
            for b in range(size):
                near = [obs[first + (b - s) % size] for s in (-2, -1, 0, 1, 2)]
                near += [10 * change[first + (b - s) % size] for s in (-1, 0, 1)]
                angle = 2 * np.pi * (b + 0.5) / size
                x = dense_oracle.dense(np.array(near), p["near"]) + p["kind"][g, 0]
                x = x + still + np.cos(angle) * ahead + np.sin(angle) * aside
                x = np.maximum(x, 0)
                x = np.maximum(dense_oracle.dense(x, p["Dense_0"]), 0)
                out[:, row, g, b] = dense_oracle.dense(x, p["Dense_1"])
    return out


def test_bins_against_loops(problem):
    """Dense network plus the bins' own, and the log-scale kept within its range."""
    params, latent, context, run = problem
    mean, scale = run(latent, context)
    dense = dense_oracle.mlp(np.concatenate([latent, context], -1), params["dense"])
    expected_mean, expected_scale = np.split(dense, 2, -1)
    ring_mean, ring_scale = ring_oracle(params, latent, context)
    expected_mean[:, 3:] += ring_mean.reshape(4, -1)
    expected_scale[:, 3:] += ring_scale.reshape(4, -1)
    np.testing.assert_allclose(mean, expected_mean, atol=2e-5)
    np.testing.assert_allclose(scale, 2 * np.tanh(expected_scale / 2), atol=2e-5)
    assert np.abs(scale).max() < 2


def test_turning_the_world_turns_the_bins(problem):
    """Without the dense network and without a direction of motion, a world turned by
    three bins has its changes turned by three bins.
    """
    params, latent, context, _ = problem
    motion = params["motion"]
    kernel, bias = motion["kernel"].copy(), motion["bias"].copy()
    kernel[:, 5:], bias[5:] = 0.0, 0.0
    dense = jax.tree.map(np.zeros_like, params["dense"])
    params = params | {"dense": dense, "motion": {"kernel": kernel, "bias": bias}}

    def turned(context):
        context = context.copy()
        for start in (WIDTH, WIDTH + OBS + ACTION):
            for first, size in RINGS:
                part = slice(start + first, start + first + size)
                context[:, part] = np.roll(context[:, part], 3, axis=1)
        return context

    run = jax.jit(lambda context: DECODER.apply({"params": params}, latent, context)[0])
    before, after = np.asarray(run(context)), np.asarray(run(turned(context)))
    for first, size in RINGS:
        part = slice(first, first + size)
        np.testing.assert_allclose(
            after[:, part], np.roll(before[:, part], 3, axis=1), atol=1e-6
        )
    assert np.abs(before[:, 3:]).max() > 1e-3


def test_options_that_are_off(problem):
    """No shared layers: the dense network alone. No range: a log-scale of zero."""
    params, latent, context, _ = problem
    plain = DECODER.clone(ring_hidden=(), scale_range=0.0)
    run = jax.jit(
        lambda dense: plain.apply({"params": {"dense": dense}}, latent, context)
    )
    mean, scale = run(params["dense"])
    dense = dense_oracle.mlp(np.concatenate([latent, context], -1), params["dense"])
    np.testing.assert_allclose(mean, dense[:, :OBS], atol=2e-5)
    assert not np.any(scale)
