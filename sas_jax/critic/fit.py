"""Fits the cost critic to data: labels, three splits by episode, an ensemble.

Training sees the episodes that the world model was trained on; the held-out ones are
halved into early stopping and calibration, so no number of the report comes from an
episode that chose a parameter (Platt's two are cross-fitted for the report).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sas_jax.config import check_seed
from sas_jax.critic.calibration import (
    cross_fitted,
    fit_platt,
    level_table,
    probabilities,
    quality,
)
from sas_jax.critic.network import (
    Critic,
    CriticConfig,
    gate_level,
    member_logits,
    member_risk,
    network,
    pessimistic,
)
from sas_jax.data import checks
from sas_jax.data.episodes import Episodes
from sas_jax.data.spec import DataSpec
from sas_jax.envs.tasks import TASKS
from sas_jax.errors import UserError

# Most rows of the early-stopping split that a look takes, evenly spaced.
_STOP_ROWS = 16384
_BLOCK = 1024
_CLIP_NORM = 1.0


class Labels(NamedTuple):
    """What follows each step of the data, one entry a step.

    share: share of the h steps that begin with this one that have a cost (float32).
    cost: their cost. Both as far as the data go.
    whole: whether all h steps are in the data, or the episode ended for good. Only then
      are the others known.
    """

    share: np.ndarray
    cost: np.ndarray
    whole: np.ndarray


def make_labels(episodes: Episodes, horizon: int) -> Labels:
    """Labels of every step; horizons do not reach into the next episode.

    A time-out hides what would have followed: such steps are censored. After a
    termination no cost can follow, and nothing is hidden.
    """
    row = np.arange(episodes.num_steps)
    last = np.repeat(episodes.offsets[1:], episodes.lengths)
    ended = np.repeat(episodes.terminated, episodes.lengths)
    stop = np.minimum(row + horizon, last)
    hits = np.concatenate([[0], np.cumsum(episodes.costs > 0)])
    cost = np.concatenate([[0.0], np.cumsum(episodes.costs, dtype=np.float64)])
    count = hits[stop] - hits[row]
    return Labels(
        share=(count / horizon).astype(np.float32),
        cost=cost[stop] - cost[row],
        whole=(row + horizon <= last) | ended,
    )


def fit_critic(
    episodes: Episodes,
    spec: DataSpec,
    config: CriticConfig,
    seed: int = 0,
    *,
    held_out: float = 0.1,
    split_seed: int = 0,
    on_look: Callable[[int, np.ndarray], None] | None = None,
) -> tuple[Critic, dict]:
    """Trains, calibrates and measures a critic.

    Args:
      episodes: all of the data, before any split.
      spec: of the world model that the critic serves: it standardises observations.
      seed: of initialisation and batches.
      held_out, split_seed: `train.held_out` and `train.seed` of that world model.
      on_look: called with the step and the members' losses on the stop split.

    Returns:
      The critic, and its report: plain values, everything measured on the calibration
      split (see `calibration.quality`).

    Raises:
      UserError: NaN in the data, another task or sizes unlike the spec's, too few
        episodes, a split with costs after every step or after none, a seed that is
        none, or losses that are not finite.
    """
    check_seed(seed)
    training, stopping, calibration = split_for(episodes, spec, held_out, split_seed)
    parts = {"training": training, "stopping": stopping, "calibration": calibration}
    labels = {k: make_labels(part, config.horizon) for k, part in parts.items()}
    for name, found in labels.items():
        known = found.share[found.whole] > 0
        if not known.any() or known.all():
            raise UserError(
                f"critic: {int(known.sum())} of {known.size} {name} steps lead to a "
                f"cost within {config.horizon} steps; expected some, and not all"
            )
    critic = _untrained(spec, config, seed)
    rows = {
        name: _device_rows(parts[name], labels[name], spec)
        for name in ("training", "stopping")
    }
    params, best, best_step, last = _train(
        critic, rows["training"], thinned(rows["stopping"]), seed, on_look
    )
    critic, measured = _calibrate(
        critic.replace(params=params), calibration, labels["calibration"], spec
    )
    report = {
        "settings": dataclasses.asdict(config) | {"seed": seed},
        "splits": {
            name: {"episodes": part.num_episodes, "steps": part.num_steps}
            for name, part in parts.items()
        },
        "train_steps": last,
        "steps_to_best": best_step.tolist(),
        "stop_bce": best.tolist(),
    }
    return critic, report | measured


def _untrained(spec: DataSpec, config: CriticConfig, seed: int) -> Critic:
    """A critic with fresh members; slope, offset and levels say nothing yet."""
    rings = tuple(tuple(ring) for ring in spec.rings)
    scales = spec.ring_scales
    net = network(config, spec.obs_dim, rings, scales)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 0), config.members)
    obs, action = jnp.zeros((1, spec.obs_dim)), jnp.zeros((1, spec.action_dim))
    params = jax.jit(jax.vmap(lambda key: net.init(key, obs, action)["params"]))(keys)
    return Critic(
        params=params,
        slope=jnp.ones(()),
        offset=jnp.zeros(()),
        levels=jnp.array([0.0, 1.0]),
        rates=jnp.zeros(2),
        config=config,
        obs_dim=spec.obs_dim,
        action_dim=spec.action_dim,
        rings=rings,
        ring_scales=scales,
        scaling=spec.scaling,
    )


def _standardised(episodes: Episodes, spec: DataSpec) -> np.ndarray:
    return ((episodes.observations - spec.obs_mean) / spec.obs_std).astype(np.float32)


def _device_rows(episodes: Episodes, labels: Labels, spec: DataSpec):
    """The steps whose label is known, on the device: obs, action, label."""
    known = labels.whole
    return (
        jnp.asarray(_standardised(episodes, spec)[known]),
        jnp.asarray(episodes.actions[known]),
        jnp.asarray(labels.share[known]),
    )


def split_for(
    episodes: Episodes, spec: DataSpec, held_out: float, seed: int
) -> tuple[Episodes, Episodes, Episodes]:
    """For training, for early stopping, and those that chose nothing.

    Training has the episodes of the model with this spec, by its share and seed.

    Raises:
      UserError: NaN in the data, another task or sizes unlike the spec's, or too few
        episodes.
    """
    checks.check_task(episodes, spec.task, owner="the data spec")
    checks.check_sizes(episodes, spec.obs_dim, spec.action_dim, owner="the data spec")
    checks.check_finite(episodes)
    training, held = episodes.split(held_out, seed=seed)
    return training, *held.split(0.5, seed=seed)


def thinned(rows: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """At most `_STOP_ROWS` evenly spaced rows: enough for a look."""
    count = len(rows[0])
    chosen = np.unique(np.linspace(0, count - 1, min(count, _STOP_ROWS)).astype(int))
    return jax.tree.map(lambda x: x[chosen], rows)


def optimiser_of(config: Any) -> optax.GradientTransformation:
    """AdamW with clipped gradients and a cosine decay over `num_steps`.

    config: has learning_rate, weight_decay (of matrices alone) and num_steps.
    """
    return optax.chain(
        optax.clip_by_global_norm(_CLIP_NORM),
        optax.adamw(
            optax.cosine_decay_schedule(config.learning_rate, config.num_steps),
            weight_decay=config.weight_decay,
            mask=lambda params: jax.tree.map(lambda x: x.ndim == 2, params),
        ),
    )


def _train(critic: Critic, rows, stop_rows, seed: int, on_look):
    """Trains all members side by side; each keeps its best parameters.

    Returns:
      params with a leading axis of members, their loss on the stop split `[members]`,
      the step of each `[members]`, and the last step.
    """
    config = critic.config
    net = network(config, critic.obs_dim, critic.rings, critic.ring_scales)
    optimiser = optimiser_of(config)
    chunk = min(config.check_every, config.num_steps)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1), config.members)

    def loss(params, obs, action, label):
        logit = net.apply({"params": params}, obs, action)
        return optax.sigmoid_binary_cross_entropy(logit, label).mean()

    def member_step(key, step, params, state, rows):
        shape = (config.batch_size,)
        drawn = jax.random.fold_in(key, step)
        index = jax.random.randint(drawn, shape, 0, rows[2].shape[0])
        grads = jax.grad(loss)(params, *(x[index] for x in rows))
        updates, state = optimiser.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    every_member = jax.vmap(member_step, in_axes=(0, None, 0, 0, None))

    @jax.jit
    def train_chunk(params, state, first, rows):
        def body(carry, step):
            return every_member(keys, step, *carry, rows), None

        steps = first + jnp.arange(chunk)
        return jax.lax.scan(body, (params, state), steps)[0]

    @jax.jit
    def look(params, best_params, best, rows):
        def row_loss(row):
            return jax.vmap(lambda p: loss(p, *row))(params)

        now = jax.lax.map(row_loss, rows, batch_size=_BLOCK).mean(axis=0)
        better = now < best

        def keep(new, old):
            return jnp.where(better.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

        return jax.tree.map(keep, params, best_params), jnp.minimum(now, best), now

    params, best_params = critic.params, critic.params
    state = jax.jit(jax.vmap(optimiser.init))(params)
    best = jnp.full(config.members, jnp.inf)
    best_step = np.zeros(config.members, int)
    step = 0
    while step < config.num_steps:
        params, state = train_chunk(params, state, step, rows)
        step += chunk
        before = np.asarray(best)
        best_params, best, now = look(params, best_params, best, stop_rows)
        now = np.asarray(now)
        if not np.isfinite(now).all():
            raise UserError(
                f"critic: loss {now.tolist()} after {step} steps; expected finite "
                "numbers (a smaller learning_rate?)"
            )
        best_step = np.where(now < before, step, best_step)
        if on_look:
            on_look(step, now)
        if step - best_step.max() >= config.patience * chunk:
            break
    return best_params, np.asarray(best), best_step, step


def _calibrate(critic: Critic, episodes: Episodes, labels: Labels, spec: DataSpec):
    """Scales the members, tabulates the levels, and measures."""
    whole = labels.whole
    if not whole.any():
        raise UserError(
            f"critic: no calibration episode lasts {critic.config.horizon} steps; "
            "expected a shorter horizon or longer episodes"
        )
    obs, action = _standardised(episodes, spec)[whole], episodes.actions[whole]
    logits = _in_blocks(member_logits, critic, obs, action)
    label, cost = labels.share[whole], labels.cost[whole]
    episode = np.repeat(np.arange(episodes.num_episodes), episodes.lengths)[whole]
    measured = quality(cross_fitted(logits, label, episode), label, episode)
    raw = quality(probabilities(logits, 1.0, 0.0), label, episode)
    slope, offset = fit_platt(logits, label)
    critic = critic.replace(slope=jnp.float32(slope), offset=jnp.float32(offset))
    members = _in_blocks(member_risk, critic, obs, action)
    risk = np.asarray(pessimistic(jnp.asarray(members), critic.config.pessimism))
    horizon, episode_steps = critic.config.horizon, spec.max_timestep
    levels, rates = level_table(
        risk, cost, horizon=horizon, episode_steps=episode_steps
    )
    critic = critic.replace(levels=jnp.asarray(levels), rates=jnp.asarray(rates))
    limits = TASKS[spec.task].cost_limits if spec.task in TASKS else ()
    return critic, measured | {
        "bce_uncalibrated": raw["bce"],
        "bce_pessimistic": quality(risk, label, episode)["bce"],
        "member_sd": float(members.std(0).mean()),
        "slope": slope,
        "offset": offset,
        "gate": [_gate_line(critic, limit, risk) for limit in limits],
        "cost": float(cost.mean() / horizon * episode_steps),
        "table": {"level": levels.tolist(), "rate": rates.tolist()},
    }


def _gate_line(critic: Critic, limit: float, risk: np.ndarray) -> dict:
    """The level of a threshold, and the share of steps above it."""
    level = float(gate_level(critic, limit))
    gated = float(np.mean(risk > level))
    return {"cost_limit": limit, "level": level, "gated": gated}


def _in_blocks(function, critic: Critic, obs, action) -> np.ndarray:
    """`[members, n]` of `function(critic, obs, action)`, in blocks of one shape."""
    run = jax.jit(function)
    found = []
    for first in range(0, len(obs), _BLOCK):
        rows = np.arange(first, first + _BLOCK) % len(obs)
        found.append(np.asarray(run(critic, obs[rows], action[rows])))
    return np.concatenate(found, axis=1)[:, : len(obs)]
