"""Aligns a policy that is not ours: the example of docs/tutorial.md, twice.

A point on a plane is to reach the origin. Nobody trained the policy: it steers as
briskly as the steps it sees did, so a prompt really moves it.
"""

import jax.numpy as jnp
import numpy as np

import sas_jax


def policy(params, history, mask):
    """Towards the origin, as fast as the steps in sight; all but the last have one."""
    speeds = jnp.linalg.norm(history.action[:-1], axis=1)
    seen = mask[:-1]
    speed = jnp.where(seen, speeds, 0.0).sum() / jnp.maximum(seen.sum(), 1)
    position = history.obs[-1]
    heading = -position / (0.1 + jnp.linalg.norm(position))
    return heading * jnp.where(seen.any(), speed, 0.5), jnp.full(2, params["log_std"])


def dynamics(params, history, mask, action):
    return history.obs[-1] + 0.2 * action, jnp.full(2, -4.0)


def density(params, obs):  # the data stayed close to the line y = 0
    return -0.5 * (obs[0] / 2.0) ** 2 - 0.5 * (obs[1] / 0.2) ** 2


def main():
    model = sas_jax.from_history_policy(
        policy, dynamics, action_dim=2, context=8, prompt_steps=3, density=density
    )
    config = sas_jax.SASConfig(prompt_length=3, horizon=30, track_drift=True)
    actions = {}
    for variant in ("none", "sas"):
        aligned = sas_jax.AlignedPolicy(
            model, {"log_std": -1.0}, config, variant=variant, episode_steps=30
        )
        obs = np.array([2.0, 0.5])
        aligned.reset(obs, seed=7, cost_limit=5.0)
        actions[variant] = []
        for _ in range(30):  # your simulator goes here
            action = aligned.act(obs)
            obs = obs + 0.2 * action
            actions[variant].append(action)
        print(variant, obs, aligned.diagnostics()["level"])
    return actions, aligned.diagnostics()


if __name__ == "__main__":
    main()
