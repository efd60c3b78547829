"""The decoder and its token embeddings once more: float64 numpy, one row, dense masks.

Written from the description (pre-norm attention, ReLU, LayerNorm with epsilon 1e-6) and
not from the code under test. Everything that the package does with blocks, windows,
rings and prefixes must agree with a plain softmax under an explicit mask.
"""

import numpy as np


def layer_norm(x, p):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * p["scale"] + p["bias"]


def dense(x, p):
    return x @ np.asarray(p["kernel"], np.float64) + p["bias"]


def mlp(x, p):
    for i in range(len(p) - 1):
        x = np.maximum(dense(x, p[f"Dense_{i}"]), 0.0)
    return dense(x, p[f"Dense_{len(p) - 1}"])


def decoder(params, config, x, mask):
    """x `[n, D]` tokens, mask `[n, n]` bool (query, key) -> hidden states `[n, D]`."""
    x = np.asarray(x, np.float64)
    n, width = x.shape
    heads, size = config.num_heads, width // config.num_heads
    for i in range(config.depth):
        p = params[f"blocks_{i}"]
        normed = layer_norm(x, p["norm_attention"])
        q = dense(normed, p["query"]).reshape(n, heads, size)
        both = dense(normed, p["key_value"])
        k = both[:, :width].reshape(n, heads, size)
        v = both[:, width:].reshape(n, heads, size)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(size)
        scores = np.where(mask[None], scores, -np.inf)
        scores = scores - scores.max(-1, keepdims=True)
        weights = np.exp(scores)
        weights /= weights.sum(-1, keepdims=True)
        attended = np.einsum("hqk,khd->qhd", weights, v).reshape(n, width)
        x = x + dense(attended, p["project"])
        hidden = dense(layer_norm(x, p["norm_feed_forward"]), p["expand"])
        x = x + dense(np.maximum(hidden, 0.0), p["contract"])
    return layer_norm(x, params["norm"])


def make_mask(real_steps, per_step, window, *, prompt_steps=0, prompt="pinned"):
    """Who sees whom, token by token, in a prompt followed by real steps.

    window: steps in sight, the present one included. prompt: "pinned" is seen by every
    real step; "sliding" counts as the steps just before the first and leaves the window
    as they would; prompt tokens see each other only.
    """
    total = prompt_steps + real_steps
    mask = np.zeros((total * per_step, total * per_step), bool)
    for query in range(total * per_step):
        for key in range(query + 1):
            q, k = query // per_step, key // per_step
            if q < prompt_steps:
                mask[query, key] = True
            elif k < prompt_steps and prompt == "pinned":
                mask[query, key] = True
            else:
                mask[query, key] = q - k < window
    return mask


def tokens(params, config, obs, action, return_to_go, cost_to_go, timestep):
    """Embedded tokens of one row `[W, n, D]`, inputs in model units."""
    parts = [dense(return_to_go[:, None], params["embed_return"])]
    if "embed_cost" in params:
        budget = np.clip(cost_to_go, 0, None)
        parts.append(dense(budget[:, None], params["embed_cost"]))
    parts.append(dense(obs, params["embed_obs"]))
    parts.append(dense(action, params["embed_action"]))
    time = np.asarray(params["embed_timestep"]["embedding"], np.float64)[timestep]
    stacked = np.stack(parts, 1) + time[:, None]
    return layer_norm(stacked, params["norm_embedding"])


def transition(params, config, latent, context):
    """Mean and log-scale `[..., O]` of a transition decoder without rings."""
    out = mlp(np.concatenate([latent, context], -1), params["decoder"]["dense"])
    mean, scale = np.split(out, 2, -1)
    return mean, 3.0 * np.tanh(scale / 3.0)


def last_change(obs):
    """s_t - s_{t-1} `[..., W, O]`, 0 at the first step."""
    return np.diff(obs, axis=-2, prepend=obs[..., :1, :])


def noisy_or(x, p):
    """Log-odds that any cause fires: 1 - P = prod (1 - p_i), in plain probabilities."""
    causes = 400.0 * (np.stack([x, -x], -2) * p["slope"] + p["bias"])
    causes = causes.reshape(*x.shape[:-1], -1)
    quiet = np.prod(1 / (1 + np.exp(causes.astype(np.float64))), -1)
    return np.log1p(-quiet) - np.log(quiet)


def policy(params, longest, z_state, obs, return_to_go, cost_to_go, timestep):
    """Mean and log-std `[W, A]` of the action in episodes of `longest` steps."""
    left = np.clip((longest - np.asarray(timestep, float)) / longest, 1 / longest, 1)
    share = np.clip(left, 0.05, None)
    targets = [left, return_to_go, np.clip(return_to_go / share, -2, 2)]
    if "embed_cost" in params:
        budget = np.clip(cost_to_go, 0, None)
        targets += [budget, np.clip(budget / share, -2, 2)]
        targets.append(np.log1p(50 * budget) / 4)
    inputs = np.concatenate([z_state, obs, np.stack(targets, -1)], -1)
    out = mlp(inputs, params["policy"])
    mean, log_std = np.split(out, 2, -1)
    return mean, np.clip(log_std, -4.0, 0.5)
