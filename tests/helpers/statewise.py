"""A process with a price in every state, solved exactly, as an environment in JAX.

Two actions a state. An action in [-1, 1] of the environment is a policy's probability
of the second one, (1 + a) / 2: successors are drawn by it, rewards and costs are what
is expected of it. So every value is affine in the action, and a network that acts
without noise can be optimal.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from sas_jax.jax_envs.protocol import JaxEnv, Step


@dataclasses.dataclass(frozen=True)
class StateWise:
    """after: `[S, 2]`. reward, cost: `[S, 2]`, expected; costs are probabilities."""

    after: np.ndarray
    reward: np.ndarray
    cost: np.ndarray
    discount: float

    def solve(self, limit: float):
        """The best policy whose expected cost is at most `limit` in every state.

        A linear programme over occupations x(s, a), with a constraint for each state,
        sum_a x(s, a) (c(s, a) - limit) <= 0, whose duals are the prices. From all
        states alike.

        Returns the prices `[S]`, and the probability of the second action `[S]`.
        """
        states = len(self.after)
        flow = np.repeat(np.eye(states), 2, axis=1)
        np.subtract.at(flow, (self.after.ravel(), np.arange(2 * states)), self.discount)
        over = np.zeros((states, 2 * states))
        for s in range(states):
            over[s, 2 * s : 2 * s + 2] = self.cost[s] - limit
        found = optimize.linprog(
            -self.reward.ravel(),
            A_ub=over,
            b_ub=np.zeros(states),
            A_eq=flow,
            b_eq=np.full(states, (1 - self.discount) / states),
        )
        assert found.success
        x = found.x.reshape(states, 2)
        return -found.ineqlin.marginals, x[:, 1] / x.sum(axis=1)

    def env(self, episode_steps: int = 20) -> JaxEnv:
        """The environment; a state is a one-hot observation."""
        after, reward, cost = map(jnp.asarray, (self.after, self.reward, self.cost))
        states = len(self.after)

        def reset(key):
            own, key = jax.random.split(key)
            state = jax.random.randint(own, (), 0, states)
            return (state, key), jnp.eye(states)[state]

        def step(state, action):
            place, key = state
            draw, key = jax.random.split(key)
            second = 0.5 * (1.0 + action[0])
            drawn = jax.random.bernoulli(draw, second).astype(int)
            mean_cost = (1 - second) * cost[place, 0] + second * cost[place, 1]
            paid = (1 - second) * reward[place, 0] + second * reward[place, 1]
            new = after[place, drawn]
            seen = jnp.eye(states)[new]
            return Step((new, key), seen, paid, mean_cost, jnp.bool_(False))

        return JaxEnv(reset, step, states, 1, episode_steps)


def make(seed: int = 0, *, states: int = 6, discount: float = 0.5) -> StateWise:
    """What pays more costs more, differently from state to state."""
    rng = np.random.default_rng([19, seed])
    reward = np.stack([np.zeros(states), rng.uniform(0.3, 1.0, states)], 1)
    cost = np.stack([np.zeros(states), rng.uniform(0.4, 0.9, states)], 1)
    # One state in three costs nothing: its price is 0.
    cost[::3, 1] = 0.05
    after = rng.integers(0, states, (states, 1)).repeat(2, 1)
    after = np.where(np.arange(2)[None] == 1, rng.permutation(states)[:, None], after)
    return StateWise(
        after, reward.astype(np.float32), cost.astype(np.float32), discount
    )
