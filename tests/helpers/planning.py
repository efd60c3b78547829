"""Plans in the corridor: settings, candidates, and whole episodes."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.alignment import candidates
from sas_jax.alignment import plan as plan_lib
from sas_jax.alignment.config import PlanConfig, SASConfig
from sas_jax.alignment.policy import make_policy
from sas_jax.types import Rows, TimeStep
from tests.helpers import corridor

PLAN = PlanConfig(num_candidates=12, horizon=15, execute=3, margin=4.0)
CONFIG = SASConfig(prompt_length=corridor.LENGTH, plan=PLAN, num_first=2, num_second=2)


def start(count, obs=(0.0, 0.0)):
    keys = jax.random.split(jax.random.key(0), count)
    obs = jnp.tile(jnp.float32(obs)[None], (count, 1))
    zeros = jnp.zeros(count)
    return corridor.MODEL.start(corridor.VARIABLES, keys, obs, zeros, zeros, 4)


def imagined(config, count=3, plan=None, which=None):
    """Candidates `which` of rows at the start; None means all of them."""
    plan = plan or plan_lib.empty(count, config, corridor.OBS, corridor.ACTIONS)
    which = range(config.num_candidates) if which is None else which
    return _imagined(plan, config, count, which)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _imagined(plan, config, count, which):
    keys = jax.random.split(jax.random.key(1), count)
    return candidates.imagine(
        corridor.MODEL,
        corridor.VARIABLES,
        keys,
        start(count),
        None,
        plan,
        config,
        which,
    )


class Runner:
    """Episodes in the corridor, whose true world is the model's own, without noise."""

    def __init__(
        self, variants, config=CONFIG, episodes=6, model=corridor.MODEL, risk_model=None
    ):
        self.variants, self.episodes = variants, episodes
        self.policy = make_policy(
            model,
            config,
            variants=variants,
            horizon=6,
            target_return=0.0,
            episode_steps=30,
            risk_model=risk_model,
        )
        chex.clear_trace_counter()
        self.act = jax.jit(chex.assert_max_traces(self.policy.act, n=1))
        self.begin = jax.jit(chex.assert_max_traces(self.policy.begin, n=1))

    def run(self, limit=0.0, *, steps=30, variables=None, gain=1.0, restarts=()):
        """Actions, costs `[T, V, E]`, and the diagnostics at the end."""
        variables = variables or corridor.VARIABLES
        rows, key = self.episodes * len(self.variants), jax.random.key(3)
        given = Rows(
            cost_limit=jnp.full(rows, limit),
            episode_seed=jnp.tile(
                jnp.arange(self.episodes, dtype=jnp.uint32), len(self.variants)
            ),
        )
        carry = self.policy.initial_carry(variables, given, key, obs_dim=2)
        obs, cost = np.zeros((rows, 2), np.float32), np.zeros(rows, np.float32)
        actions, costs = [], []
        for t in range(steps):
            first = np.zeros(rows, bool) | (t == 0)
            for step, episode in restarts:
                if t == step:
                    first[episode :: self.episodes] = True
                    obs[episode :: self.episodes] = 0.0
            ts = TimeStep(obs.copy(), np.zeros(rows, np.float32), cost, first)
            if t == 0:
                carry = self.begin(variables, carry, ts, key)
            action, carry = self.act(variables, carry, ts, key)
            obs = obs + np.float32(gain * corridor.SPEED) * np.asarray(action)
            cost = np.asarray(corridor.cost_at(obs))
            actions.append(np.asarray(action))
            costs.append(cost)
        shape = (steps, len(self.variants), self.episodes)
        known = {
            k: np.asarray(v).reshape(*shape[1:], *np.shape(v)[1:])
            for k, v in self.policy.diagnostics(carry).items()
        }
        actions = np.stack(actions).reshape(*shape, -1)
        return actions, np.stack(costs).reshape(shape), known, carry
