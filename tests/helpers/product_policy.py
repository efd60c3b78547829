"""A sequence policy of three matrix products, which compiles in no time.

Its products round differently in another shape, as a transformer's do: what tests of
equal bits need.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.alignment import policy as aligned_policy
from sas_jax.alignment.gate import RiskModel
from sas_jax.policies.history import from_history_policy
from sas_jax.types import Policy, Rows, TimeStep

OBS, ACTIONS, WIDTH, LENGTH = 5, 2, 24, 2


def make_variables(seed=0):
    rng = np.random.default_rng([11, seed])

    def draw(*shape):
        return np.float32(rng.normal(size=shape) / np.sqrt(shape[0]))

    return {
        "read": draw(OBS + ACTIONS, WIDTH),
        "see": draw(OBS + ACTIONS, WIDTH),
        "act": draw(WIDTH, ACTIONS),
        "move": draw(WIDTH, OBS),
        "danger": draw(OBS + ACTIONS, 1),
    }


def _memory(weights, history, mask):
    """`[WIDTH]` of the steps in sight, the present one first among them."""
    steps = jnp.concatenate([history.obs, history.action], axis=1)
    read = jnp.tanh(steps @ weights)
    return jnp.where(mask[:, None], read, 0.0).mean(axis=0) + read[-1]


def policy(variables, history, mask):
    mean = jnp.tanh(_memory(variables["read"], history, mask) @ variables["act"])
    return mean, jnp.full(ACTIONS, -1.5)


def dynamics(variables, history, mask, action):
    push = jnp.tanh(_memory(variables["see"], history, mask) @ variables["move"])
    mean = 0.9 * history.obs[-1] + 0.3 * push + 0.2 * action.sum()
    return mean, jnp.full(OBS, -2.0)


def outcome(variables, obs, action, next_obs):
    return next_obs[0], (next_obs[1] > 0.5).astype(jnp.float32)


MODEL = from_history_policy(
    policy,
    dynamics,
    outcome=outcome,
    action_dim=ACTIONS,
    context=5,
    prompt_steps=LENGTH,
)


def _risk(variables, obs, action):
    return (jnp.concatenate([obs, action], axis=-1) @ variables["danger"])[..., 0]


RISK = RiskModel(risk=_risk, level=lambda variables, limit: 0.01 * limit)


def make_policy(config, variants, *, horizon, **settings):
    """There is nothing to train."""
    policy = aligned_policy.make_policy(
        MODEL,
        config,
        variants=variants,
        horizon=horizon,
        target_return=5.0,
        risk_model=RISK,
        **settings,
    )
    return Policy(
        initial_carry=functools.partial(policy.initial_carry, obs_dim=OBS),
        begin=policy.begin,
        act=policy.act,
        diagnostics=policy.diagnostics,
        narrow=policy.narrow,
    )


def played(policy, variants, *, episodes, steps=5):
    """Actions `[steps, B, A]` and the carry of some episodes of each variant.

    All see the same random observations; nothing is earned and nothing costs. policy:
    of `alignment.policy.make_policy`.
    """
    variables, count = make_variables(), len(variants) * episodes
    seeds = jnp.tile(jnp.arange(episodes, dtype=jnp.uint32), len(variants))
    rows = Rows(jnp.full(count, 1.0), seeds)
    key = jax.random.key(0)
    carry = policy.initial_carry(variables, rows, key, obs_dim=OBS)
    act, found = jax.jit(policy.act), []
    rng, zeros = np.random.default_rng(0), jnp.zeros(count)
    for t in range(steps):
        obs = jnp.asarray(rng.normal(size=(1, OBS)), jnp.float32)
        ts = TimeStep(jnp.tile(obs, (count, 1)), zeros, zeros, jnp.full(count, t == 0))
        action, carry = act(variables, carry, ts, key)
        found.append(np.asarray(action))
    return np.stack(found), carry
