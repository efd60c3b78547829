"""How far a prompt moves the actions along real steps."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.alignment.sequence_model import Prompt
from sas_jax.policies.teacher_forcing import Steps, replay
from sas_jax.studies.probe import Probe
from sas_jax.studies.recording import Recording
from sas_jax.types import Key


def make_shifts(probe: Probe) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Builds (variables, keys `[B]`, steps, prompts `[V, B]`) -> shift, scale.

    shift: `[V, B, T]` mean over the actions of |mu with the prompt - mu with the prompt
    masked|, both means clipped to the box, both with the window that the prompt leaves,
    along the same real steps. scale: `[B, T]` the policy's own standard deviation
    there, masked.

    All prompts and the masked one run side by side, and no density is computed.
    """

    def run(
        variables, keys: Key, steps: Steps, prompts: Prompt
    ) -> tuple[jax.Array, jax.Array]:
        count = prompts.is_present.shape[0] + 1

        def with_masked(x):
            """`[V, B, ...]` -> `[(V + 1) * B, ...]`, the first again at the end."""
            x = jnp.concatenate([x, x[:1]])
            return x.reshape(-1, *x.shape[2:])

        present = prompts.is_present
        given = jax.tree.map(with_masked, prompts)
        given = given.replace(
            is_present=jnp.concatenate([present, jnp.zeros_like(present[:1])]).ravel()
        )
        seen = replay(
            probe.model,
            variables,
            jnp.tile(keys, count),
            jax.tree.map(lambda x: jnp.concatenate([jnp.asarray(x)] * count), steps),
            prompt=given,
            window=probe.model.prompt_window,
            is_scored=False,
        )
        mean = jnp.clip(seen.mean, -1.0, 1.0)
        mean = mean.reshape(count, -1, *mean.shape[1:])
        scale = jnp.exp(seen.log_std).mean(-1).reshape(mean.shape[:-1])
        return jnp.abs(mean[:-1] - mean[-1:]).mean(-1), scale[-1]

    return run


def tokens_along(rewards, costs, target_return: float, cost_limit: float):
    """Return and cost tokens `[E, T]` of steps with such rewards, costs `[E, T]`."""

    def left(start, values):
        before = np.cumsum(values, axis=1) - values
        return (start - before).astype(np.float32)

    return left(target_return, rewards), left(cost_limit, costs)


def steps_of(probe: Probe, run: Recording, variant: int, rows: np.ndarray) -> Steps:
    """The episodes `rows` `[B]` of a variant, cut or padded to the longest there is."""
    longest = probe.loaded.spec.max_timestep
    return_to_go, cost_to_go = tokens_along(
        run.reward[variant], run.cost[variant], probe.target_return, probe.cost_limit
    )

    def fit(values):
        values = np.asarray(values, np.float32)[rows, :longest]
        short = longest - values.shape[1]
        return np.pad(values, ((0, 0), (0, short)) + ((0, 0),) * (values.ndim - 2))

    return Steps(
        obs=fit(run.obs[variant]),
        action=fit(run.action[variant]),
        return_to_go=fit(return_to_go),
        cost_to_go=fit(cost_to_go),
        length=np.minimum(run.length[variant][rows], longest).astype(np.int32),
    )
