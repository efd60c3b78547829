"""The learners' networks in numpy, and parameters that are chosen by hand."""

import jax
import numpy as np


def mlp(params, *inputs):
    """A `networks.MLP` of any depth on inputs put side by side."""
    x = np.concatenate(inputs, axis=-1)
    for i in range(len(params)):
        layer = params[f"Dense_{i}"]
        x = x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
        x = x if i == len(params) - 1 else np.maximum(x, 0)
    return x


def ensemble(params, *inputs):
    """A `critics.Ensemble`: `[members, ...]`."""
    (stacked,) = params.values()
    count = len(stacked["Dense_0"]["bias"])
    each = [jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(count)]
    return np.stack([mlp(p, *inputs)[..., 0] for p in each])


def squashed(params, obs):
    """Mean and log-std of a `SquashedActor`."""
    mean, log_std = np.split(mlp(params["MLP_0"], obs), 2, axis=-1)
    return mean, np.clip(log_std, -20, 2)


def lively(params, seed=0):
    """Random parameters of the same shapes, of order one: everything has a say."""
    rng = np.random.default_rng([8, seed])

    def draw(path, leaf):
        noise = rng.normal(size=leaf.shape)
        fan_in = leaf.shape[-2] if path[-1].key == "kernel" else 10
        return (noise / np.sqrt(fan_in)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, params)


def table(params, rows, bias=0.0):
    """Parameters of a two-layer MLP that says `rows[s]` at one-hot state s.

    Inputs beyond the states are ignored. rows: `[S, n]`.
    """
    first, last = np.zeros_like(params["Dense_0"]["kernel"]), None
    states = len(rows)
    first[np.arange(states), np.arange(states)] = 1.0
    last = np.zeros_like(params["Dense_1"]["kernel"])
    last[:states] = rows
    zeros = [np.zeros_like(params[f"Dense_{i}"]["bias"]) for i in (0, 1)]
    return {
        "Dense_0": {"kernel": first, "bias": zeros[0]},
        "Dense_1": {"kernel": last, "bias": zeros[1] + np.float32(bias)},
    }
