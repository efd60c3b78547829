"""The evaluation loop: all variants, thresholds and episodes of a task in one batch.

Rows of a batch are variants x thresholds x episodes on the same layouts. Episodes run
in waves that begin together, so the shapes never change; a wave ends when its last
episode does. A row's result depends on (task, episode seed, threshold, variant) and the
base seed only.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.alignment import check_variants
from sas_jax.checkpoint import Checkpoint
from sas_jax.envs.tasks import get_task
from sas_jax.envs.vector import StepBatch, VectorEnv
from sas_jax.errors import UserError
from sas_jax.learners import sequence
from sas_jax.report.results import EpisodeResult
from sas_jax.types import Learner, Rows, TimeStep


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What to run.

    variants: names of `alignment.VARIANTS`. cost_limits: thresholds kappa >= 0.
    num_episodes: layouts per variant, seeds first_seed, first_seed + 1, ...
    seed: base of every random draw of the agents. train_seed: index of the checkpoint's
      training seed. max_rows: environments at once. num_workers: 0 means one a core.
    """

    variants: tuple[str, ...] = ("none", "rand", "sas")
    cost_limits: tuple[float, ...] = (20.0, 40.0, 80.0)
    num_episodes: int = 20
    first_seed: int = 1_000_000
    seed: int = 0
    train_seed: int = 0
    max_rows: int = 384
    num_workers: int | None = None

    def __post_init__(self):
        check_variants(self.variants)
        if not self.cost_limits:
            raise UserError("cost_limits: expected at least one threshold")
        for limit in self.cost_limits:
            if not math.isfinite(limit) or limit < 0:
                raise UserError(f"cost_limits: {limit:g}; expected numbers >= 0")
        if len(set(self.cost_limits)) != len(self.cost_limits):
            raise UserError(f"cost_limits: {self.cost_limits} names one twice")
        for name in ("num_episodes", "max_rows"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: expected >= 1, got {getattr(self, name)}")
        if self.num_workers is not None and self.num_workers < 1:
            raise UserError(f"num_workers: expected >= 1, got {self.num_workers}")
        if not 0 <= self.first_seed < 2**32 - self.num_episodes:
            raise UserError(
                f"first_seed: expected in [0, 2**32), got {self.first_seed}"
            )


class Paths(NamedTuple):
    """What happened step by step in the first wave, for pictures.

    first_obs: `[R, O]`. pose: `[R, T, 6]`. reward, cost: `[R, T]`. length: `[R]`.
    variant, episode_seed: `[R]`. layouts: episode seed -> layout at the start.
    """

    first_obs: np.ndarray
    pose: np.ndarray
    reward: np.ndarray
    cost: np.ndarray
    length: np.ndarray
    variant: list[str]
    episode_seed: np.ndarray
    layouts: dict[int, dict[str, np.ndarray]]


class Evaluation(NamedTuple):
    """Result rows, and the paths of the first wave."""

    results: list[EpisodeResult]
    paths: Paths


def _time_step(batch: StepBatch) -> TimeStep:
    """The agent's view of a batch; numpy in, so that one call moves it all."""
    return TimeStep(
        obs=batch.obs,
        reward=batch.reward.astype(np.float32),
        cost=batch.cost.astype(np.float32),
        is_first=batch.is_first,
    )


class _Wave(NamedTuple):
    """One wave's rows: variant-major, then thresholds, then episodes."""

    rows: Rows
    seeds: np.ndarray


def _make_wave(config, limits, seeds) -> _Wave:
    """Rows of all variants and thresholds on the layouts `seeds`."""
    variants, episodes = len(config.variants), len(seeds) * len(limits)
    episode_seed = np.tile(seeds, variants * len(limits))
    return _Wave(
        Rows(
            variant=jnp.repeat(jnp.arange(variants), episodes),
            cost_limit=jnp.tile(
                jnp.repeat(jnp.asarray(limits, jnp.float32), len(seeds)), variants
            ),
            episode_seed=jnp.asarray(episode_seed, jnp.uint32),
        ),
        episode_seed,
    )


def run_wave(
    learner: Learner,
    variables: Any,
    envs: VectorEnv,
    wave: _Wave,
    key: jax.Array,
    calls: dict[str, Callable],
    on_step: Callable[[int], None] | None = None,
):
    """Runs every row of a wave to its end.

    Returns:
      dict with `[R]` totals (return, cost, length, terminated), the learner's
      diagnostics, align_seconds per row, and the paths `[R, T, ...]`.
    """
    carry = calls["initial_carry"](variables, wave.rows, key)
    batch = envs.reset(wave.seeds)
    first_obs = batch.obs.copy()
    layouts = {}
    for slot, episode_seed in enumerate(wave.seeds):
        if int(episode_seed) not in layouts:
            layouts[int(episode_seed)] = envs.layout(slot)
    begin = calls["begin"].lower(variables, carry, _time_step(batch), key).compile()
    started = time.perf_counter()
    carry = jax.block_until_ready(begin(variables, carry, _time_step(batch), key))
    seconds = time.perf_counter() - started
    poses, rewards, costs = [batch.pose], [], []
    length = np.zeros(envs.num_envs, np.int64)
    while not batch.is_last.all():
        running = ~batch.is_last
        action, carry = calls["act"](variables, carry, _time_step(batch), key)
        batch = envs.step(np.asarray(action))
        rewards.append(np.where(running, batch.reward, 0.0))
        costs.append(np.where(running, batch.cost, 0.0))
        poses.append(batch.pose)
        length += running
        if on_step:
            on_step(int(running.sum()))
    rewards, costs = np.stack(rewards, 1), np.stack(costs, 1)
    return {
        "seeds": wave.seeds,
        "first_obs": first_obs,
        "layouts": layouts,
        "return": rewards.sum(1),
        "cost": costs.sum(1),
        "length": length,
        "terminated": batch.terminated.copy(),
        "diagnostics": jax.device_get(learner.diagnostics(carry)),
        "align_seconds": seconds,
        "pose": np.stack(poses[:-1], 1),
        "reward_path": rewards,
        "cost_path": costs,
    }


def evaluate(
    loaded: Checkpoint,
    config: EvaluationConfig,
    *,
    on_step: Callable[[int], None] | None = None,
) -> Evaluation:
    """Runs a checkpoint's policy under every variant and threshold.

    A policy without cost tokens acts the same under every threshold: its episodes are
    run once and judged at each.

    Args:
      loaded: checkpoint. config: what to run.
      on_step: called with the number of environment steps just made.

    Raises:
      UserError: settings that do not fit the checkpoint.
    """
    experiment, spec = loaded.config, loaded.spec
    task = get_task(experiment.task)
    if (task.obs_dim, task.action_dim) != (spec.obs_dim, spec.action_dim):
        raise UserError(
            f"checkpoint of {experiment.task}: trained on {spec.obs_dim} observations "
            f"and {spec.action_dim} actions; the task has {task.obs_dim} and "
            f"{task.action_dim}"
        )
    if not 0 <= config.train_seed < experiment.train.num_seeds:
        raise UserError(
            f"train_seed: {config.train_seed}; the checkpoint holds "
            f"{experiment.train.num_seeds} seed(s), from 0"
        )
    sees_limit = experiment.model.cost_token
    learner = sequence.make(
        experiment,
        spec,
        variants=config.variants,
        report_limits=None if sees_limit else config.cost_limits,
    )
    state = jax.tree.map(lambda x: x[config.train_seed], loaded.state)
    variables = sequence.variables_of(state)
    limits = config.cost_limits if sees_limit else config.cost_limits[:1]
    per_episode = len(config.variants) * len(limits)
    size = min(max(config.max_rows // per_episode, 1), config.num_episodes)
    calls = {
        "initial_carry": jax.jit(learner.initial_carry),
        "begin": jax.jit(learner.begin, donate_argnums=1),
        "act": jax.jit(learner.act, donate_argnums=1),
    }
    key = jax.random.key(config.seed)
    all_seeds = config.first_seed + np.arange(config.num_episodes)
    results, paths = [], None
    with VectorEnv(
        task.name, size * per_episode, num_workers=config.num_workers
    ) as envs:
        for first in range(0, config.num_episodes, size):
            seeds = all_seeds[first : first + size]
            # A short last wave is filled up, so that nothing compiles again.
            padded = np.concatenate([seeds, np.repeat(seeds[-1:], size - len(seeds))])
            wave = _make_wave(config, limits, padded)
            out = run_wave(learner, variables, envs, wave, key, calls, on_step)
            results += _results(loaded, config, task, limits, out, len(seeds), size)
            if paths is None:
                paths = Paths(
                    first_obs=out["first_obs"],
                    length=out["length"],
                    pose=out["pose"],
                    reward=out["reward_path"],
                    cost=out["cost_path"],
                    variant=[config.variants[int(v)] for v in wave.rows.variant],
                    episode_seed=wave.seeds,
                    layouts=out["layouts"],
                )
    results.sort(
        key=lambda r: (r.episode_seed, config.variants.index(r.variant), r.cost_limit)
    )
    return Evaluation(results, paths)


def _results(loaded, config, task, limits, out, count, size) -> list[EpisodeResult]:
    """Result rows of the first `count` episodes of each block of a wave."""
    results = []
    diagnostics = out["diagnostics"]
    prompted = np.isfinite(diagnostics["prompt_ok"])
    seconds = out["align_seconds"] / max(int(prompted.sum()), 1)
    for row in range(len(out["return"])):
        block, episode = divmod(row, size)
        if episode >= count:
            continue
        variant = config.variants[block // len(limits)]
        own = limits[block % len(limits)]
        judged = enumerate(config.cost_limits)
        if loaded.config.model.cost_token:
            judged = [(0, own)]  # it acted under its own threshold
        for index, limit in judged:
            value = float(out["return"][row])
            cost = float(out["cost"][row])
            known = {
                name: float(x[row] if x.ndim == 1 else x[row, index])
                for name, x in diagnostics.items()
            }
            has_prompt = bool(prompted[row])
            results.append(
                EpisodeResult(
                    task=task.name,
                    algo=loaded.config.algo,
                    variant=variant,
                    cost_limit=float(limit),
                    train_seed=loaded.config.train.seed + config.train_seed,
                    episode_seed=int(out["seeds"][row]),
                    episode_return=value,
                    cost=cost,
                    length=int(out["length"][row]),
                    failed=bool(cost > 0 or out["terminated"][row]),
                    normalized_return=float(task.normalized_return(value)),
                    normalized_cost=float(task.normalized_cost(cost, limit)),
                    align_seconds=seconds if has_prompt else math.nan,
                    level=known["level"],
                    mean_u=known["mean_u"],
                    mean_v=known["mean_v"],
                    invariant_share=known["invariant_share"],
                    prompt_start=int(known["prompt_start"])
                    if known["prompt_ok"] == 1
                    else -1,
                    prompt_ok=known["prompt_ok"] != 0,
                )
            )
    return results
