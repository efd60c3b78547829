"""A constrained decision process small enough to be solved: 50 states, 4 actions.

States are one-hot observations; the four actions are points in the box. Each leads to
one state, so that one next state is its mean.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from scipy import optimize

from sas_jax.data.spec import DataSpec
from sas_jax.types import TransitionBatch

ACTIONS = 0.5 * np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], np.float32)


@dataclasses.dataclass(frozen=True)
class CMDP:
    """after: `[S, 4]` the state that follows. reward, cost: `[S, 4]`. discount: gamma.

    It begins in state 0.
    """

    after: np.ndarray
    reward: np.ndarray
    cost: np.ndarray
    discount: float

    @property
    def count(self) -> int:
        """S."""
        return len(self.after)

    def flow(self) -> np.ndarray:
        """`[S, S * 4]` B with B d = (1 - gamma) mu_0 for every distribution d."""
        out = np.repeat(np.eye(self.count), 4, axis=1)
        np.subtract.at(
            out, (self.after.ravel(), np.arange(self.count * 4)), self.discount
        )
        return out

    def first(self) -> np.ndarray:
        """(1 - gamma) mu_0 `[S]`."""
        return (1 - self.discount) * np.eye(self.count)[0]

    def best(self, limit: float) -> tuple[float, float]:
        """Reward and cost, of a step, of the best policy whose cost is within limit."""
        found = optimize.linprog(
            -self.reward.ravel(),
            A_ub=self.cost.reshape(1, -1),
            b_ub=[limit],
            A_eq=self.flow(),
            b_eq=self.first(),
        )
        assert found.success
        return -found.fun, float(self.cost.ravel() @ found.x)

    def regularised(self, limit: float, alpha: float) -> tuple[float, float, float]:
        """Reward, cost and objective of COptiDICE's problem; data uniform.

        Its dual in float64, nu and lambda together.
        """
        data = np.full(self.count * 4, 1 / (self.count * 4))
        flow, first = self.flow(), self.first()
        reward, cost = self.reward.ravel(), self.cost.ravel()

        def parts(x):
            y = (reward - x[-1] * cost - flow.T @ x[:-1]) / alpha
            low = np.exp(np.minimum(y, 0))
            w = np.where(y < 0, low, y + 1)
            star = np.where(y < 0, low - 1, 0.5 * y * y + y)
            return w, star

        def dual(x):
            w, star = parts(x)
            value = first @ x[:-1] + alpha * data @ star + x[-1] * limit
            d = data * w
            return value, np.append(first - flow @ d, limit - d @ cost)

        bounds = [(None, None)] * self.count + [(0, None)]
        start = np.zeros(self.count + 1)
        found = optimize.minimize(
            dual,
            start,
            jac=True,
            bounds=bounds,
            method="L-BFGS-B",
            options={"maxiter": 20000, "maxfun": 40000, "ftol": 1e-15, "gtol": 1e-9},
        )
        d = data * parts(found.x)[0]
        assert np.abs(flow @ d - first).max() < 1e-5
        return float(d @ reward), float(d @ cost), float(found.fun)

    def evaluate(self, signal: np.ndarray, policy: np.ndarray) -> np.ndarray:
        """Q `[S, 4]` of a signal `[S, 4]` under action probabilities `[S, 4]`."""
        size = self.count * 4
        chain = np.zeros((size, size))
        for i, state in enumerate(self.after.ravel()):
            chain[i, 4 * state : 4 * state + 4] = policy[state]
        q = np.linalg.solve(np.eye(size) - self.discount * chain, signal.ravel())
        return q.reshape(-1, 4)

    def batch(self) -> TransitionBatch:
        """Every state with every action, once: `S * 4` steps; none is an end."""
        state = np.repeat(np.eye(self.count, dtype=np.float32), 4, axis=0)
        none = np.zeros(len(state), bool)
        return TransitionBatch(
            obs=jnp.asarray(state),
            action=jnp.asarray(np.tile(ACTIONS, (self.count, 1))),
            reward=jnp.asarray(self.reward.ravel(), jnp.float32),
            cost=jnp.asarray(self.cost.ravel(), jnp.float32),
            next_obs=jnp.asarray(
                np.eye(self.count, dtype=np.float32)[self.after]
            ).reshape(-1, self.count),
            is_terminal=jnp.asarray(none),
            is_timeout=jnp.asarray(none),
        )

    def spec(self, num_steps: int = 100) -> DataSpec:
        """Sizes of the data; observations are not scaled."""
        size = self.count
        return DataSpec(
            task="PointGoal1",
            obs_dim=size,
            action_dim=2,
            obs_mean=np.zeros(size, np.float32),
            obs_std=np.ones(size, np.float32),
            obs_active=np.ones(size, bool),
            max_timestep=num_steps,
            return_scale=1.0,
            cost_scale=1.0,
            reward_std=1.0,
            target_return=1.0,
            fingerprint="0" * 16,
        )


def make(seed: int = 0, *, count: int = 50, discount: float = 0.9) -> CMDP:
    """Random successors and rewards; what pays more costs more."""
    rng = np.random.default_rng([9, seed])
    reward = rng.uniform(size=(count, 4))
    cost = (rng.uniform(size=(count, 4)) < 0.2 + 0.5 * reward).astype(float)
    return CMDP(rng.integers(0, count, (count, 4)), reward, cost, discount)
