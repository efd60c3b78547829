"""The decoder with rings: against plain loops, and its symmetry."""

import jax
import numpy as np
import pytest

from sas_jax.models.transition import TransitionDecoder
from tests.helpers import dense_oracle
from tests.helpers.model_fixtures import random_params

# Three plain dimensions, then two rings of eight bins.
WIDTH, OBS, ACTION, LATENT, SIZE = 4, 19, 2, 3, 8
RINGS = ((3, SIZE), (11, SIZE))
SCALES = ((0.3, 0.25), (0.4, 0.2))
SINGLE = (False, True)
DECODER = TransitionDecoder(
    width=WIDTH,
    obs_dim=OBS,
    action_dim=ACTION,
    hidden=(6,),
    rings=RINGS,
    ring_scales=SCALES,
    ring_single=SINGLE,
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


def network_oracle(p, motion, bins, change, ring):
    """What the shared network says of every bin `[8, 9]`, bin by bin, in float64."""
    still, ahead, aside = np.split(dense_oracle.dense(motion, p["motion"]), 3)
    out = np.zeros((SIZE, 9))
    for b in range(SIZE):
        near = [bins[(b - s) % SIZE] for s in (-2, -1, 0, 1, 2)]
        near += [10 * change[(b - s) % SIZE] for s in (-1, 0, 1)]
        angle = 2 * np.pi * (b + 0.5) / SIZE
        x = dense_oracle.dense(np.array(near), p["near"]) + p["kind"][ring, 0]
        x = x + still + np.cos(angle) * ahead + np.sin(angle) * aside
        x = np.maximum(dense_oracle.dense(np.maximum(x, 0), p["Dense_0"]), 0)
        out[b] = dense_oracle.dense(x, p["Dense_1"])
    return out


def law_oracle(readings, said, ego, single):
    """What is read after a step, object by object."""
    seen = np.zeros(SIZE)
    width = 2 * np.pi / SIZE
    for b in range(SIZE):
        before, own, after = (readings[(b + i) % SIZE] for i in (-1, 0, 1))
        bright = max(own, 1e-3)
        place = 0.5 * (1 - min(before / bright, 1) + min(after / bright, 1))
        place = np.clip(place + 0.3 * said[b, 2], 0, 1)
        if single:
            presence = float(own == readings.max())
        elif own > 1e-3 and own >= max(before, after):
            presence = np.clip(1.2 + said[b, 5], 0, 1)
        else:
            presence = 1 / (1 + np.exp(3 - said[b, 5]))
        turn, *step = 0.02 * ego
        out, left = 0.01 * said[b, 3:5]
        angle = (b + place) * width
        cos, sin = np.cos(angle), np.sin(angle)
        along = max(3 * (1 - own) + out - step[0] * cos - step[1] * sin, 0.05)
        across = left + step[0] * sin - step[1] * cos
        offset = place + (np.arctan(across / along) - turn) / width
        shown = np.clip(1 - np.hypot(along, across) / 3, 0, 1) * presence
        for bins in range(-2, 3):
            share = np.clip(min(1 + offset - bins, 2 - offset + bins), 0, 1)
            where = (b + bins) % SIZE
            seen[where] = max(seen[where], shown * share)
    if single:
        return seen
    peak = around(seen) + 0.025 * np.log1p(np.exp(4 * said[:, 1] - 4))
    share = np.clip((seen + 0.1 * said[:, 0]) / np.maximum(peak, 5e-3), 0, 1)
    return np.minimum(peak * share / np.maximum(around(share), 0.8), 1)


def around(x):
    return np.array([max(x[b - 1], x[b], x[(b + 1) % SIZE]) for b in range(SIZE)])


def lone_oracle(angle, distance):
    """One object's readings, by the environment's own lidar where it has 16 bins."""
    place = (angle % (2 * np.pi)) / (2 * np.pi / SIZE)
    bins, own, share = np.zeros(SIZE), int(place), place - int(place)
    for where, light in ((own - 1, 1 - share), (own, 1.0), (own + 1, share)):
        bins[where % SIZE] = light * (1 - distance / 3)
    return bins


def ring_oracle(p, latent, context):
    """Mean and scale of every bin `[P, 2, 8]`, without the dense network's scale."""
    out = np.zeros((2, len(latent), 2, SIZE))
    for row, (one, vector) in enumerate(zip(latent, context, strict=True)):
        z, obs, action, change = np.split(vector, np.cumsum([WIDTH, OBS, ACTION]))
        dense = dense_oracle.mlp(np.concatenate([one, vector]), p["dense"])
        plain, odds, away, y, x = dense[:3], *dense[3 + OBS :]
        motion = [one, obs[:3], obs[:3] + plain, 5 * plain, action, z]
        motion = np.concatenate(motion)
        ego = dense_oracle.dense(motion, p["ego"])
        for g, (first, size) in enumerate(RINGS):
            part, (middle, unit) = slice(first, first + size), SCALES[g]
            said = network_oracle(p, motion, obs[part], change[part], g)
            here = middle + unit * obs[part]
            after = law_oracle(np.clip(here, 0, 1), said, ego, SINGLE[g])
            if SINGLE[g]:
                # The jump's odds, distance, and direction.
                there = lone_oracle(np.arctan2(y, 1 + x), 3 / (1 + np.exp(-away)))
                reached = after.max() * p["reached_slope"][0] + p["reached_bias"][0]
                odds = 8 * odds + 400 * reached
                after = after + (there - after) / (1 + np.exp(-odds))
            out[0, row, g] = (after - here) / unit
            share = after / np.maximum(around(after), 5e-3)
            out[1, row, g] = said[:, 6] + share**8 * said[:, 7]
            out[1, row, g] += np.exp(-after / 0.015) * said[:, 8]
    return out


def test_bins_against_loops(problem):
    """The dense network's plain dimensions, the lidars' law with what the networks say
    of it, and the log-scale kept within its range.
    """
    params, latent, context, run = problem
    mean, scale = run(latent, context)
    dense = dense_oracle.mlp(np.concatenate([latent, context], -1), params["dense"])
    ring_mean, ring_scale = ring_oracle(params, latent, context)
    expected_mean = np.concatenate([dense[:, :3], ring_mean.reshape(4, -1)], -1)
    expected_scale = dense[:, 3 : 3 + OBS].copy()
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
    dense, ego = (
        jax.tree.map(np.zeros_like, params[name]) for name in ("dense", "ego")
    )
    # The agent turns and stands, and nothing jumps: directions of their own would not
    # turn along.
    ego["bias"][0] = 3.0
    dense["Dense_1"]["bias"][3 + OBS] = -9.0
    params = params | {
        "dense": dense,
        "ego": ego,
        "motion": {"kernel": kernel, "bias": bias},
    }

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


def test_without_rings_all_is_the_dense_networks():
    plain = TransitionDecoder(width=4, obs_dim=3, action_dim=2, hidden=(6,))
    rng = np.random.default_rng(4)
    latent = rng.normal(size=(4, 3)).astype(np.float32)
    context = 9 * rng.normal(size=(4, 4 + 3 + 2 + 3)).astype(np.float32)
    params = random_params(plain, latent, context)
    mean, scale = plain.apply({"params": params}, latent, context)
    expected = dense_oracle.transition({"decoder": params}, None, latent, context)
    np.testing.assert_allclose(mean, expected[0], atol=2e-5)
    np.testing.assert_allclose(scale, expected[1], atol=2e-5)
    assert 1 < np.abs(scale).max() < 3
