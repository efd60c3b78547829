"""How steadily the ladder of `learners.sac_alam` learns, and what its prices know.

Every rung learns on `jax_envs.point_mass`, its seeds side by side. While it learns, the
return, the cost and the price at fixed probe states are noted chunk by chunk; after it,
whether lambda(s) foretells a cost.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax import learners
from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig
from sas_jax.jax_envs import loop, point_mass
from sas_jax.learners import sac_alam
from sas_jax.online import chunk as chunk_lib
from sas_jax.online import fit as online_fit
from sas_jax.stats.ranks import auc
from sas_jax.studies.foretelling import soon
from sas_jax.types import TrainState

TASK, PROBES, HORIZONS = "point_mass", 256, (20, 50)


class Curves(NamedTuple):
    """T chunks of U seeds: episode_return, cost, risk, over_limit `[T, U]`; price
    `[T, U, P]` at the probe states; step `[T]`, updates made.
    """

    episode_return: np.ndarray
    cost: np.ndarray
    risk: np.ndarray
    over_limit: np.ndarray
    price: np.ndarray
    step: np.ndarray


def make_config(
    algo: str, *, seeds: int, updates: int, chunk: int, **settings: Any
) -> ExperimentConfig:
    """Networks of 64 x 64, batches of 128; small enough for minutes of one core."""
    config = learners.default_config("", algo)
    model = {
        "hidden": (64, 64),
        "discount": 0.97,
        "cost_discount": 0.9,
        "target_rate": 0.02,
        "actor_rate": 5e-4,
        "multiplier_rate": 5e-4,
        "penalty": 2.0,
        "most": 10.0,
        "num_envs": 10,
        "capacity": 100_000,
        "start_steps": 2000,
        "price_after": 1000,
    }
    train = {
        "num_steps": updates,
        "batch_rows": 128,
        "learning_rate": 1e-3,
        "num_seeds": seeds,
        "chunk": chunk,
        "checkpoint_every": chunk,
    }
    return dataclasses.replace(
        config,
        task=TASK,
        model=dataclasses.replace(config.model, **model | settings),
        train=dataclasses.replace(config.train, **train),
    )


def probe_states(count: int = PROBES) -> np.ndarray:
    """`[P, 4]` observations all over the map, at speeds that occur; always the same."""
    rng = np.random.default_rng(7)
    place = rng.uniform(-0.9, 0.9, (count, 2))
    speed = 10.0 * rng.uniform(-0.1, 0.1, (count, 2))
    return np.concatenate([place, speed], 1).astype(np.float32)


def run(config: ExperimentConfig) -> tuple[Curves, TrainState, DataSpec]:
    """Trains all seeds and notes their curves. Returns them, the states, the scales."""
    env = point_mass.make()
    spec = online_fit.make_spec(TASK, env)
    states, world = online_fit.start(config, spec, env)
    chunk = chunk_lib.make_chunk(config, spec, env, config.train.chunk)
    price = _lane_prices(config, spec)
    probes = spec.standardised(probe_states())
    rows, count = [], config.train.num_steps // config.train.chunk
    for _ in range(count):
        states, world, metrics = chunk(states, world)
        rows.append(jax.device_get((metrics, price(states, probes))))
    steps, none = env.episode_steps, np.full(config.train.num_seeds, np.nan)

    def curve(name, scale=1.0):
        return np.stack([scale * found.get(name, none) for found, _ in rows])

    curves = Curves(
        episode_return=curve("step_reward", steps),
        cost=curve("step_cost", steps),
        risk=curve("risk"),
        over_limit=curve("over_limit"),
        price=np.stack([found for _, found in rows]),
        step=config.train.chunk * np.arange(1, count + 1),
    )
    return curves, states, spec


def _lane_prices(config: ExperimentConfig, spec: DataSpec):
    """`(states [U], standardised observations [P, O]) -> [U, P]`; 0 without a price."""
    if config.model.price == "none":
        return lambda states, obs: np.zeros((config.train.num_seeds, len(obs)))
    price = sac_alam.make_signals(config, spec)["multiplier"]
    variables_of = learners.get(config.algo).variables_of
    return jax.jit(
        jax.vmap(lambda state, obs: price(variables_of(state), obs), (0, None))
    )


def first_met(risk: np.ndarray, limit: float, start: int) -> int:
    """The first chunk from `start` on whose mean risk `[T]` is within the limit.

    The middle of the run where there is none.
    """
    met = np.flatnonzero(risk[start:] <= limit)
    return start + int(met[0]) if met.size else len(risk) // 2


def spread(curve: np.ndarray) -> tuple[float, float]:
    """Standard deviation, and total variation over the range, of a curve `[T]`."""
    span = float(np.ptp(curve))
    total = float(np.abs(np.diff(curve)).sum())
    return float(curve.std()), total / span if span > 0 else 0.0


def main_period(curve: np.ndarray) -> float:
    """Chunks of the strongest period in curves `[T, P]`, their powers added up.

    The straight line through each curve is taken out first. NaN for constant ones, and
    for fewer than three chunks.
    """
    if len(curve) < 3:
        return math.nan
    time = np.arange(len(curve)) - (len(curve) - 1) / 2
    slope = time @ curve / (time @ time)
    power = np.abs(np.fft.rfft(curve - curve.mean(0) - np.outer(time, slope), axis=0))
    power = np.square(power).sum(axis=1)[1:]
    return len(curve) / (1 + int(power.argmax())) if power.max() > 1e-12 else math.nan


def steadiness(config: ExperimentConfig, curves: Curves, seed: int) -> dict[str, float]:
    """The figures of one seed, by name; periods in updates."""
    # A run that ends before there is a price is looked at in its second half.
    half = len(curves.step) // 2
    start = min(config.model.price_after // config.train.chunk, half)
    risk, model = curves.risk[:, seed], config.model
    first = first_met(risk, model.limit, start) if model.price != "none" else start
    late = slice(half, None)
    found = {
        "met_at": float(curves.step[first]),
        "late_return": float(curves.episode_return[late, seed].mean()),
        "late_cost": float(curves.cost[late, seed].mean()),
        "late_risk": float(curves.risk[late, seed].mean()),
        "late_over_limit": float(curves.over_limit[late, seed].mean()),
        "late_price": float(curves.price[late, seed].mean()),
    }
    for name, curve in (
        ("return", curves.episode_return[first:, seed]),
        ("cost", curves.cost[first:, seed]),
        ("price", curves.price[first:, seed].mean(axis=1)),
    ):
        found[f"{name}_std"], found[f"{name}_variation"] = spread(curve)
    each = curves.price[first:, seed].std(axis=0)
    found["probe_price_std"] = float(each.mean())
    period = main_period(curves.price[first:, seed])
    return found | {"price_period": period * config.train.chunk}


def foretelling(
    config: ExperimentConfig, state: TrainState, spec: DataSpec, episodes: int = 64
) -> dict[str, float]:
    """AUROC of lambda(s) and of Q_c for a cost within 20 and 50 steps, of one seed.

    Every second action, by chance, is random: the policy alone may never cost anything.
    "shuffled" is the control: each state has the price of another.
    """
    algorithm, env = learners.get(config.algo), point_mass.make()
    variables = algorithm.variables_of(state)
    assert algorithm.make_explorer is not None
    explore = algorithm.make_explorer(config, spec)

    def act(obs, key):
        seen = spec.standardised(obs)
        keys = jax.random.split(key, 3)
        own = explore(variables, seen[None], keys[0])[0]
        strange = jax.random.uniform(keys[1], own.shape, minval=-1.0)
        return jnp.where(jax.random.bernoulli(keys[2]), own, strange)

    keys = jax.random.split(jax.random.key(11), episodes)
    out = loop.record(env, lambda own: act, keys, env.episode_steps)
    seen = spec.standardised(out.obs[:, :-1])
    flat = jnp.reshape(seen, (-1, spec.obs_dim))
    cost, found = np.asarray(out.cost) > 0, {}
    signals = sac_alam.make_signals(config, spec)
    score = {
        name: np.asarray(signals[name](variables, flat)).reshape(cost.shape)
        for name in ("multiplier", "risk")
    }
    rng = np.random.default_rng(13)
    score["shuffled"] = rng.permutation(score["multiplier"].ravel()).reshape(cost.shape)
    for horizon in HORIZONS:
        soon = costs_within(cost, horizon)
        for name, value in score.items():
            own = value[:, : soon.shape[1]]
            found[f"auc_{name}_{horizon}"] = auc(own.ravel(), soon.ravel())
        found[f"base_{horizon}"] = float(soon.mean())
    return found


def costs_within(cost: np.ndarray, horizon: int) -> np.ndarray:
    """Whether one of the next steps costs, `[E, T]` -> `[E, T - horizon]` bool.

    The step that the state's own action makes counts. The last states are left out:
    nobody knows what would have followed.
    """
    return soon(cost, horizon)[:, :-1]
