"""Whole episodes in one compiled program: recording them, and judging a policy."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.config import Number
from sas_jax.data.episodes import Episodes
from sas_jax.errors import UserError
from sas_jax.jax_envs.protocol import JaxEnv
from sas_jax.shapes import expect_shape
from sas_jax.types import Key, Policy, Rows, TimeStep

# Number of an episode's own draw, beside those of its steps.
_OWN = 0xFFFFFFFF
# (obs [O], key) -> action [A].
Act = Callable[[jax.Array, Key], jax.Array]
# Called with an episode's key when it begins: what acts in it.
Behaviour = Callable[[Key], Act]


class Recorded(NamedTuple):
    """B episodes, T steps each; what comes after an episode's end is not its own.

    obs: `[B, T + 1, O]`. action: `[B, T, A]`. reward, cost: `[B, T]`. length: `[B]`.
    terminated: `[B]`.
    """

    obs: jax.Array
    action: jax.Array
    reward: jax.Array
    cost: jax.Array
    length: jax.Array
    terminated: jax.Array


class Outcome(NamedTuple):
    """Of each row: return, cost `[R]` float32, length `[R]` int32, terminated `[R]`.

    diagnostics, ended: what the policy knew when the episodes had begun, and at their
    ends, name -> `[R, ...]`.
    """

    episode_return: jax.Array
    cost: jax.Array
    length: jax.Array
    terminated: jax.Array
    diagnostics: dict[str, jax.Array]
    ended: dict[str, jax.Array]


@functools.cache
def random_behaviour(env: JaxEnv) -> Behaviour:
    """Uniform actions; the same object for the same environment, as programs are kept
    by it.
    """

    def act(obs: jax.Array, key: Key) -> jax.Array:
        del obs
        return jax.random.uniform(key, (env.action_dim,), minval=-1.0)

    return lambda key: act


@functools.partial(jax.jit, static_argnums=(0, 1, 3))
def record(env: JaxEnv, behaviour: Behaviour, keys: Key, steps: int) -> Recorded:
    """Runs B episodes of a behaviour, `keys` `[B]`, side by side.

    steps: T, at most; the environment's `episode_steps` are the time limit.
    """

    def one(key: Key) -> Recorded:
        start, acting = jax.random.split(key)
        state, first = env.reset(start)
        expect_shape("env.reset", "obs", first, env.obs_dim)
        act = behaviour(jax.random.fold_in(acting, _OWN))

        def step(carry, number):
            state, obs, is_running = carry
            drawn = act(obs, jax.random.fold_in(acting, number))
            expect_shape("behaviour", "action", drawn, env.action_dim)
            action = jnp.clip(drawn, -1.0, 1.0)
            out = env.step(state, action)
            expect_shape("env.step", "obs", out.obs, env.obs_dim)
            row = obs, action, out.reward, out.cost, is_running
            now = is_running & ~out.terminated
            return (out.state, out.obs, now), row

        carry = state, first, jnp.bool_(True)
        (_, last, ran), rows = jax.lax.scan(step, carry, jnp.arange(steps))
        obs, action, reward, cost, was_running = rows
        return Recorded(
            obs=jnp.concatenate([obs, last[None]]),
            action=action,
            reward=reward,
            cost=cost,
            length=was_running.sum(),
            terminated=~ran,
        )

    return jax.vmap(one)(keys)


def collect(
    env: JaxEnv,
    task: str,
    behaviour: Behaviour,
    *,
    episodes: int,
    seed: int = 0,
    at_once: int = 1024,
) -> Episodes:
    """Records episodes on the device, and brings them here as data of a task.

    Args:
      task: name that the data will have. behaviour: see `record`.
      episodes: how many. at_once: side by side; the last batch is filled up.

    Raises:
      UserError: fewer than one episode, or functions that return other shapes.
    """
    for name, value in (("episodes", episodes), ("at_once", at_once)):
        if problem := Number(least=1, whole=True).problem(value):
            raise UserError(f"{name} {problem}, got {value!r}")
    size = min(at_once, episodes)
    parts = []
    for first in range(0, episodes, size):
        numbers = jnp.arange(first, first + size, dtype=jnp.uint32)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), numbers)
        out = jax.device_get(record(env, behaviour, keys, env.episode_steps))
        parts.append(jax.tree.map(lambda x, n=episodes - first: x[:n], out))
    out = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    inside = np.arange(env.episode_steps) < out.length[:, None]
    count = np.arange(len(out.length))
    return Episodes(
        task=task,
        observations=out.obs[:, :-1][inside],
        actions=out.action[inside],
        rewards=out.reward[inside],
        costs=out.cost[inside],
        offsets=np.concatenate([[0], np.cumsum(out.length)]).astype(np.int64),
        final_observations=out.obs[count, out.length],
        terminated=out.terminated,
    )


def make_evaluate(
    env: JaxEnv, policy: Policy, *, num_variants: int, at_once: int = 32
) -> Callable[..., Outcome]:
    """``(variables, rows of E episodes, key) -> Outcome`` of V x E rows, jitted.

    Alignment, acting and the environment are one program; nothing leaves the device
    before the end. Rows come variant by variant, as everywhere; all variants of an
    episode play the same layout, that of its seed.

    Args:
      policy: under V variants; see `types.Policy`. num_variants: V.
      at_once: episodes side by side, a divisor of E; the others follow one another, so
        that memory does not grow with E, nor results depend on it.
    """

    @jax.jit
    def run(variables: Any, rows: Rows, key: Key) -> Outcome:
        episodes = rows.episode_seed.shape[0]
        size = min(at_once, episodes)
        if episodes % size:
            raise UserError(
                f"episodes: {episodes}; expected a multiple of at_once {size}"
            )
        blocks = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), rows)
        out = jax.lax.map(
            lambda part: _play(env, policy, num_variants, variables, part, key), blocks
        )

        def joined(x):
            x = x.reshape(len(x), num_variants, size, *x.shape[2:])
            return x.swapaxes(0, 1).reshape(num_variants * episodes, *x.shape[3:])

        return jax.tree.map(joined, out)

    return run


def _play(env, policy, num_variants: int, variables, rows: Rows, key: Key) -> Outcome:
    """One block of episodes under every variant, whole, V x E rows."""
    seeds = rows.episode_seed
    keys = jax.vmap(jax.random.key)(seeds)
    state, obs = jax.vmap(env.reset)(keys)

    def wide(x):
        return jnp.tile(x, (num_variants, *(1,) * (x.ndim - 1)))

    def keyed(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(wide(jax.random.key_data(x)))
        return wide(x)

    state, obs = jax.tree.map(keyed, state), wide(obs)
    rows = jax.tree.map(wide, rows)
    count = obs.shape[0]
    zero = jnp.zeros(count)
    carry = policy.initial_carry(variables, rows, key)
    first = TimeStep(obs, zero, zero, jnp.ones(count, bool))
    carry = policy.begin(variables, carry, first, key)
    begun = policy.diagnostics(carry)
    # Each variant acts in its own program, as in `evaluation.blocks`.
    size = count // num_variants
    parts = [
        policy.narrow(jax.tree.map(functools.partial(_part, v, size), carry), v)
        for v in range(num_variants)
    ]

    def step(loop, number):
        state, parts, ts, total = loop
        acted = [
            policy.act(variables, part, _rows_of(ts, v, size), key)
            for v, part in enumerate(parts)
        ]
        action = jnp.concatenate([a for a, _ in acted])
        expect_shape("policy.act", "action", action, count, env.action_dim)
        out = jax.vmap(env.step)(state, action)
        running = ts.is_running
        total = (
            total[0] + jnp.where(running, out.reward, 0.0),
            total[1] + jnp.where(running, out.cost, 0.0),
            total[2] + running,
            total[3] | (running & out.terminated),
        )
        after = TimeStep(
            obs=out.obs,
            reward=jnp.where(running, out.reward, 0.0),
            cost=jnp.where(running, out.cost, 0.0),
            is_first=jnp.zeros(count, bool),
            is_running=running & ~out.terminated,
        )
        return (out.state, [part for _, part in acted], after, total), None

    start = TimeStep(obs, zero, zero, jnp.ones(count, bool), jnp.ones(count, bool))
    total = zero, zero, jnp.zeros(count, jnp.int32), jnp.zeros(count, bool)
    loop = state, parts, start, total
    loop, _ = jax.lax.scan(step, loop, jnp.arange(env.episode_steps))
    known = [policy.diagnostics(part) for part in loop[1]]
    found = {
        name: jnp.concatenate([each[name] for each in known])
        for name in known[0]
        if all(name in each for each in known)
    }
    return Outcome(*loop[3], begun, found)


def _part(variant: int, size: int, x: jax.Array) -> jax.Array:
    """A variant's rows of a carry's leaf; scalars are common to all."""
    return x if x.ndim == 0 else x[variant * size : (variant + 1) * size]


def _rows_of(ts: TimeStep, variant: int, size: int) -> TimeStep:
    return jax.tree.map(functools.partial(_part, variant, size), ts)
