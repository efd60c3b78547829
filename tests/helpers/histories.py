"""Histories of an episode, and what the dense oracle makes of them."""

import jax
import numpy as np

from sas_jax.types import Trajectory
from tests.helpers import dense_oracle


def draw_history(spec, shape, *, seed=0, first_timestep=0):
    """A `Trajectory` `[*shape]`, time last, in environment units."""
    rng = np.random.default_rng([4, seed])

    def draw(*size):
        return rng.normal(size=size).astype(np.float32)

    return Trajectory(
        obs=draw(*shape, spec.obs_dim) * spec.obs_std + spec.obs_mean,
        action=np.tanh(draw(*shape, spec.action_dim)),
        reward=draw(*shape),
        cost=draw(*shape) > 0,
        return_to_go=draw(*shape) * spec.return_scale,
        cost_to_go=draw(*shape) * spec.cost_scale,
        timestep=np.broadcast_to(
            first_timestep + np.arange(shape[-1], dtype=np.int32), shape
        ),
        is_valid=np.ones(shape, bool),
    )


def at(history, *index):
    return jax.tree.map(lambda x: x[index], history)


def oracle_hidden(params, config, spec, history, mask):
    """z of every token of one history `[W]`: `[W, n, D]` by the dense oracle."""
    tokens = dense_oracle.tokens(
        params,
        config.model,
        (history.obs - spec.obs_mean) / spec.obs_std,
        history.action,
        np.asarray(history.return_to_go / spec.return_scale),
        np.asarray(history.cost_to_go / spec.cost_scale),
        history.timestep,
    )
    steps, per_step, width = tokens.shape
    z = dense_oracle.decoder(
        params["decoder"], config.model.decoder, tokens.reshape(-1, width), mask
    )
    return z.reshape(steps, per_step, width)


def oracle_policy(params, config, spec, history, mask):
    z = oracle_hidden(params, config, spec, history, mask)
    obs = (history.obs - spec.obs_mean) / spec.obs_std
    return dense_oracle.policy(
        params,
        spec.max_timestep,
        z[:, -2],
        obs,
        np.asarray(history.return_to_go / spec.return_scale),
        np.asarray(history.cost_to_go / spec.cost_scale),
        history.timestep,
    )


def joined(prompt, history):
    """Prompt steps, then real ones, along time."""
    return jax.tree.map(lambda a, b: np.concatenate([a, b]), prompt, history)
