"""Evaluation: all variants, thresholds and episodes of a task on the same layouts.

A row's result depends on (task, episode seed, threshold, variant), the base seed and
the checkpoint, and on nothing else: see `blocks` for how that is kept.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from sas_jax import learners
from sas_jax.alignment.variants import VARIANTS, critic_of
from sas_jax.card.verdict import warn_poor, warn_short_sight
from sas_jax.checkpoint import Checkpoint
from sas_jax.config import SEEDS, Number, check
from sas_jax.critic.network import Critic
from sas_jax.envs import shift as shifts
from sas_jax.envs.tasks import Task, get_task
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.errors import UserError
from sas_jax.evaluation import blocks
from sas_jax.evaluation.targets import (
    check_cost_limits,
    check_target_returns,
    warn_outside,
)
from sas_jax.experiment import ExperimentConfig
from sas_jax.files.results import EpisodeResult


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What to run.

    variants: names that the algorithm has. cost_limits: thresholds kappa >= 0.
    target_return: return token at the start; None means the checkpoint's.
    num_episodes: layouts per variant, seeds first_seed, first_seed + 1, ...
    seed: base of every random draw of the agents. train_seed: index of the checkpoint's
      training seed. num_workers: environment processes; None means one a core.
    shift: a changed world to run in, such as ``"actuator:0.8,delay:1"``, on the same
      layouts; see `envs.shift`. Noise is a share of the training data's deviations.
    """

    variants: tuple[str, ...] = ("none", "rand", "sas")
    cost_limits: tuple[float, ...] = (20.0, 40.0, 80.0)
    target_return: float | None = None
    num_episodes: int = 20
    first_seed: int = 1_000_000
    seed: int = 0
    train_seed: int = 0
    num_workers: int | None = None
    devices: int = 1
    shift: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.variants, str) or not self.variants:
            raise UserError(
                f"variants: {self.variants!r}; expected a tuple of at least one name"
            )
        if len(set(self.variants)) != len(self.variants):
            raise UserError(f"variants: {','.join(self.variants)} names one twice")
        check_cost_limits(self.cost_limits)
        shifts.parse(self.shift)
        if self.target_return is not None:
            check_target_returns((self.target_return,))
        seed = Number(least=0, below=SEEDS, whole=True)
        rules = {
            "num_episodes": Number(least=1, whole=True),
            "num_workers": Number(least=1, whole=True, optional=True),
            "devices": Number(least=0, whole=True),
            "first_seed": seed,
            "seed": seed,
            "train_seed": Number(least=0, whole=True),
        }
        check(self, "", rules)
        if self.first_seed + self.num_episodes > SEEDS:
            raise UserError(
                f"first_seed {self.first_seed}: expected {self.num_episodes} seeds "
                "below 2**32"
            )


class Paths(NamedTuple):
    """What happened step by step in the first block, for pictures.

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
    """Result rows, and the paths of the first block."""

    results: list[EpisodeResult]
    paths: Paths


def task_of(loaded: Checkpoint, train_seed: int) -> Task:
    """The task of a checkpoint, after a look at whether the two fit.

    Raises:
      UserError: other sizes than the task's, or no such training seed.
    """
    experiment, spec = loaded.config, loaded.spec
    task = get_task(experiment.task)
    if (task.obs_dim, task.action_dim) != (spec.obs_dim, spec.action_dim):
        raise UserError(
            f"checkpoint of {experiment.task}: trained on {spec.obs_dim} observations "
            f"and {spec.action_dim} actions; the task has {task.obs_dim} and "
            f"{task.action_dim}"
        )
    experiment.train.lane_of(train_seed, *experiment.train.cost_limits[:1])
    return task


def evaluate(
    loaded: Checkpoint,
    config: EvaluationConfig,
    *,
    critic: Critic | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Evaluation:
    """Runs a checkpoint's policy under every variant and threshold.

    A policy that does not see the threshold acts the same under each: its episodes are
    run once and judged at each. Only a gate's, which looks at it, run for each. Where
    each threshold has parameters of its own, those act under it.

    Args:
      loaded: checkpoint. config: what to run.
      critic: cost critic of the variants that need one, made for the checkpoint.
      on_step: called with the number of environment steps just made.

    Raises:
      UserError: settings that do not fit the checkpoint.
    """
    experiment, spec = loaded.config, loaded.spec
    algorithm = learners.get(experiment.algo)
    task = task_of(loaded, config.train_seed)
    algorithm.check_variants(config.variants)
    if config.target_return is not None and not algorithm.has_return_token:
        raise UserError(f"target_return: algo {experiment.algo!r} acts on none")
    if algorithm.sees_cost_limit:
        warn_outside(spec, config.cost_limits)
    named = critic_of(config.variants)
    if critic is None and named is not None:
        raise UserError(f"variants: {named} needs a cost critic (experiments.critic)")
    if any(v in VARIANTS and VARIANTS[v].has_prompt for v in config.variants):
        warn_poor(loaded.card)
    if any(v in VARIANTS and VARIANTS[v].plan for v in config.variants):
        warn_short_sight(loaded.card, experiment.sas.plan.horizon)
    done = [
        _evaluate_pass(loaded, config, task, part, critic, on_step)
        for part in passes_of(experiment, config)
    ]
    results = [row for part in done for row in part.results]
    results.sort(
        key=lambda r: (r.episode_seed, config.variants.index(r.variant), r.cost_limit)
    )
    return Evaluation(results, _joined([part.paths for part in done]))


class Pass(NamedTuple):
    """Variants that run side by side, and the thresholds that they act under.

    judged: thresholds that each episode is judged at; None means its own. lane: index
    of the parameters that act.
    """

    variants: tuple[str, ...]
    cost_limits: tuple[float, ...]
    judged: tuple[float, ...] | None
    lane: int

    @property
    def num_groups(self) -> int:
        """Runs of an episode."""
        return len(self.variants) * len(self.cost_limits)


def passes_of(experiment: ExperimentConfig, config: EvaluationConfig) -> list[Pass]:
    """What to run: variants that do not see the threshold act under the first one.

    A cost token shows it to all, and to a gate its level does. Where every threshold
    has parameters of its own, each is a pass.

    Raises:
      UserError: a threshold or training seed that the checkpoint has no parameters for.
    """
    variants, limits, train = config.variants, config.cost_limits, experiment.train
    if train.cost_limits:
        return [
            Pass(variants, (limit,), None, train.lane_of(config.train_seed, limit))
            for limit in limits
        ]
    lane = train.lane_of(config.train_seed)
    shown = tuple(v for v in variants if v in VARIANTS and VARIANTS[v].sees_limit)
    if experiment.sas.gate_level is not None:
        shown = tuple(v for v in shown if not VARIANTS[v].is_gated)
    if learners.get(experiment.algo).sees_cost_limit or len(limits) == 1:
        shown = variants
    parts = [
        Pass(tuple(v for v in variants if v not in shown), limits[:1], limits, lane),
        Pass(tuple(v for v in variants if v in shown), limits, None, lane),
    ]
    return [part for part in parts if part.variants]


def _evaluate_pass(
    loaded: Checkpoint,
    config: EvaluationConfig,
    task: Task,
    part: Pass,
    critic: Critic | None,
    on_step: Callable[[int], None] | None,
) -> Evaluation:
    """All episodes of a pass, judged at all its thresholds."""
    algorithm = learners.get(loaded.config.algo)
    policy = algorithm.make_policy(
        loaded.config,
        loaded.spec,
        variants=part.variants,
        report_limits=part.judged,
    )
    state = jax.tree.map(lambda x: x[part.lane], loaded.state)
    variables = algorithm.variables_of(state)
    if critic is not None:
        variables |= {"critic": critic}
    runner = blocks.BlockRunner(
        policy,
        variables,
        num_variants=len(part.variants),
        cost_limits=part.cost_limits,
        key=jax.random.key(config.seed),
        devices=config.devices,
    )
    if config.target_return is not None:
        targets = [config.target_return] * len(part.cost_limits)
        runner.set_tokens(part.cost_limits, targets)
    all_seeds = config.first_seed + np.arange(config.num_episodes)
    size = min(runner.num_episodes, config.num_episodes)
    results, paths = [], None
    with VectorEnv(
        task.name,
        part.num_groups * size,
        num_workers=config.num_workers,
        shift=config.shift,
        # Columns that are constant in the data have no spread of their own.
        obs_std=np.where(loaded.spec.obs_active, loaded.spec.obs_std, 0.0),
    ) as envs:
        for first in range(0, config.num_episodes, size):
            out = runner.run(envs, all_seeds[first : first + size], on_step)
            results += _results(loaded, config, task, part, out)
            if paths is None:
                paths = _paths(part, out)
    assert paths is not None  # there is at least one block
    return Evaluation(results, paths)


def _paths(part: Pass, out: blocks.BlockRun) -> Paths:
    """The paths of one block, rows variant by variant."""
    groups, count = out.cost.shape[:2]

    def rows(x):
        return x.reshape(groups * count, *x.shape[2:])

    return Paths(
        first_obs=np.tile(out.first_obs, (groups, 1)),
        pose=rows(out.pose),
        reward=rows(out.reward),
        cost=rows(out.cost),
        length=rows(out.length),
        variant=list(np.repeat(part.variants, len(part.cost_limits) * count)),
        episode_seed=np.tile(out.seeds, groups),
        layouts=out.layouts,
    )


def _joined(parts: list[Paths]) -> Paths:
    """The rows of several passes, which ran on the same layouts."""
    if len(parts) == 1:
        return parts[0]
    rows = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("first_obs", "pose", "reward", "cost", "length", "episode_seed")
    }
    variants = [name for part in parts for name in part.variant]
    return Paths(**rows, variant=variants, layouts=parts[0].layouts)


def _results(
    loaded: Checkpoint,
    config: EvaluationConfig,
    task: Task,
    part: Pass,
    out: blocks.BlockRun,
) -> list[EpisodeResult]:
    """Result rows of a block: every group's episodes, judged at their thresholds."""
    results = []
    prompted = np.isfinite(out.diagnostics.get("prompt_ok", np.nan * out.length))
    seconds = out.align_seconds / max(int(prompted.sum()), 1)
    for group, episode in np.ndindex(out.cost.shape[:2]):
        variant, own = divmod(group, len(part.cost_limits))
        value = float(out.reward[group, episode].sum())
        cost = float(out.cost[group, episode].sum())
        known = {k: x[group, episode] for k, x in out.diagnostics.items()}
        ended = {k: x[group, episode] for k, x in out.ended.items()}
        has_prompt = bool(prompted[group, episode])
        for index, limit in enumerate(part.judged or (part.cost_limits[own],)):
            results.append(
                EpisodeResult(
                    task=task.name,
                    algo=loaded.config.algo,
                    variant=part.variants[variant],
                    cost_limit=float(limit),
                    train_seed=loaded.config.train.seed + config.train_seed,
                    episode_seed=int(out.seeds[episode]),
                    episode_return=value,
                    cost=cost,
                    length=int(out.length[group, episode]),
                    failed=bool(cost > 0 or out.terminated[group, episode]),
                    normalized_return=float(task.normalized_return(value)),
                    normalized_cost=float(task.normalized_cost(cost, limit)),
                    align_seconds=seconds if has_prompt else math.nan,
                    shift=str(shifts.parse(config.shift)),
                    **_alignment(known, index),
                    **_drift(ended, index, int(out.length[group, episode])),
                )
            )
    return results


def _alignment(known: dict[str, np.ndarray], index: int) -> dict[str, Any]:
    """What is known of an episode's prompt; index: of the threshold."""
    if "prompt_ok" not in known:
        return {}
    return {
        "level": float(known["level"]),
        "mean_u": float(known["mean_u"]),
        "mean_v": float(known["mean_v"]),
        "invariant_share": float(known["invariant_share"][index]),
        "prompt_start": int(known["prompt_start"]) if known["prompt_ok"] == 1 else -1,
        "prompt_ok": bool(known["prompt_ok"] != 0),
    }


def _drift(ended: dict[str, np.ndarray], index: int, length: int) -> dict[str, Any]:
    """What is known at an episode's end; index: of the threshold, length: steps."""
    found: dict[str, Any] = {
        "num_realigned": int(ended.get("num_realigned", 0)),
        "num_gated": int(ended.get("num_gated", 0)),
    }
    if ended.get("num_plans", 0) > 0:
        found |= {
            name: float(ended[name])
            for name in (
                "plan_own",
                "plan_out",
                "plan_expected",
                "plan_realised",
                "plan_error",
            )
        }
        found["num_plans"] = int(ended["num_plans"])
        found["plan_fallback"] = float(ended["plan_fallback"]) / max(length, 1)
    if "drift" in ended:
        found |= {
            "drift": float(ended["drift"]),
            "drift_outside": float(ended["drift_outside"][index]),
            "drift_alarm": int(ended["drift_alarm"]),
        }
    return found
