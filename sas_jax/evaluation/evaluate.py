"""Evaluation: all variants, thresholds and episodes of a task on the same layouts.

A row's result depends on (task, episode seed, threshold, variant), the base seed and
the checkpoint, and on nothing else: see `blocks` for how that is kept.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from sas_jax import learners
from sas_jax.alignment.sub_blocks import sub_block
from sas_jax.alignment.variants import VARIANTS, check_companions
from sas_jax.asking.network import Asking
from sas_jax.card.verdict import warn_poor, warn_short_sight
from sas_jax.checkpoint import Checkpoint
from sas_jax.critic.network import Critic
from sas_jax.envs import shift as shifts
from sas_jax.envs.tasks import Task, get_task
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.errors import UserError
from sas_jax.evaluation import attack, blocks, device_blocks
from sas_jax.evaluation.config import EvaluationConfig
from sas_jax.evaluation.targets import warn_outside
from sas_jax.evaluation.work import Pass, key_of, keys_of, work_of
from sas_jax.files.results import EpisodeResult
from sas_jax.jax_envs import named
from sas_jax.risks import LearntRisk
from sas_jax.support.model import Support
from sas_jax.types import Policy


class Paths(NamedTuple):
    """What happened step by step, for pictures: in the first block, or in all.

    first_obs: `[R, O]`. pose: `[R, T, 6]` float32. reward, cost: `[R, T]`.
    length, variant, episode_seed: `[R]`. layouts: episode seed -> layout at the start.
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
    """Result rows; paths, None where rows were there before."""

    results: list[EpisodeResult]
    paths: Paths | None


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
    critic: Critic | LearntRisk | None = None,
    asking: Asking | None = None,
    support: Support | None = None,
    done: Sequence[EpisodeResult] = (),
    on_step: Callable[[int], None] | None = None,
    on_rows: Callable[[list[EpisodeResult]], None] | None = None,
    on_stage: Callable[[str], None] | None = None,
    all_paths: bool = False,
    on_device: int | None = None,
) -> Evaluation:
    """Runs a checkpoint's policy under every variant and threshold.

    A policy that does not see the threshold acts the same under each: its episodes are
    run once and judged at each. Only a gate's, which looks at it, run for each. Where
    each threshold has parameters of its own, those act under it.

    Args:
      loaded: checkpoint. config: what to run.
      critic: cost critic of the variants that need one, made for the checkpoint.
      asking: of those that learnt which return to ask for, likewise.
      support: of those whose plans keep to the data, likewise.
      done: rows that are there already, of the same checkpoint, settings and critic;
        what they say is not run again.
      on_step: called with the number of environment steps just made.
      on_rows: called with all rows so far, those of `done` included, after each block.
      on_stage: called with what begins; see `blocks.BlockRunner.run`.
      all_paths: keep the paths of all blocks, not of the first one only: 24 bytes a
        step.
      on_device: for tasks in JAX, how many episodes of a variant run side by side in
        one program on the device; there are no paths then. None runs the environments
        in worker processes. Rows of both differ as closed loops do that round
        otherwise, and so do rows of another number.

    Raises:
      UserError: settings that do not fit the checkpoint.
    """
    experiment, spec = loaded.config, loaded.spec
    algorithm = learners.get(experiment.algo)
    task = task_of(loaded, config.train_seed)
    algorithm.check_variants(config.variants)
    if config.target_return is not None and not algorithm.has_return_token:
        raise UserError(f"target_return: algo {experiment.algo!r} acts on none")
    # A budget that is counted down is no target that must have been seen.
    if algorithm.sees_cost_limit and algorithm.has_return_token:
        warn_outside(spec, config.cost_limits)
    extra = {"critic": critic, "asking": asking, "support": support}
    check_companions(config.variants, extra)
    extra = {name: part for name, part in extra.items() if part is not None}
    if any(v in VARIANTS and VARIANTS[v].has_prompt for v in config.variants):
        warn_poor(loaded.card)
    if any(v in VARIANTS and VARIANTS[v].plan for v in config.variants):
        warn_short_sight(loaded.card, experiment.sas.plan.horizon)
    rows, found = {key_of(row): row for row in done}, []
    for part, seeds in work_of(experiment, config, done):
        acting = _acting(loaded, config, part, extra)
        calls = on_step, on_stage
        if on_device is None:
            runs = _in_workers(loaded, config, part, acting, seeds, calls)
        else:
            runs = _on_device(config, task, part, acting, seeds, calls, on_device)
        for out in runs:
            rows |= {key_of(r): r for r in _results(loaded, config, task, part, out)}
            if on_device is None and (all_paths or out.seeds[0] == seeds[0]):
                found.append(_paths(part, out))
            if on_rows:
                on_rows(_sorted(rows.values(), config.variants))
    asked = set(keys_of(experiment, config))
    results = [row for key, row in rows.items() if key in asked]
    paths = None if done or not found else _joined(found)
    return Evaluation(_sorted(results, config.variants), paths)


def _sorted(
    rows: Iterable[EpisodeResult], variants: tuple[str, ...]
) -> list[EpisodeResult]:
    """By layout; then the variants asked for in their order, others behind them."""
    rank = {name: i for i, name in enumerate(variants)}

    def place(row: EpisodeResult) -> tuple:
        last = (rank.get(row.variant, len(rank)), row.variant)
        return row.episode_seed, last, row.cost_limit, row.train_seed, row.shift

    return sorted(rows, key=place)


def _acting(
    loaded: Checkpoint, config: EvaluationConfig, part: Pass, extra: dict[str, Any]
) -> tuple[Policy, Any]:
    """The policy of a pass and its variables, behind the attack if there is one.

    extra: what some variants find in the variables besides, by name.
    """
    algorithm = learners.get(loaded.config.algo)
    policy = algorithm.make_policy(
        loaded.config,
        loaded.spec,
        variants=part.variants,
        report_limits=part.judged,
    )
    shift = shifts.parse(config.shift)
    if shift.attack:
        policy = attack.attacked(policy, shift.attack, loaded.spec.obs_spread)
    state = jax.tree.map(lambda x: x[part.lane], loaded.state)
    variables = algorithm.variables_of(state)
    return policy, variables | extra


def _worth_a_device(variants: tuple[str, ...]) -> int:
    """Episodes that are worth compiling once more, for another device.

    Plans are made for the rows that run, in sub-blocks, of which two are worth it.
    Prompts are aligned for a whole block.
    """
    known = [VARIANTS[v] for v in variants if v in VARIANTS]
    plans = any(v.plan for v in known) and not any(v.has_prompt for v in known)
    return min(2 * sub_block(), blocks.BLOCK) if plans else blocks.BLOCK


def _in_workers(
    loaded: Checkpoint,
    config: EvaluationConfig,
    part: Pass,
    acting: tuple[Policy, Any],
    seeds: np.ndarray,
    calls: tuple[Callable | None, Callable | None],
) -> Iterator[blocks.BlockRun]:
    """Runs the episodes of a pass, a block at a time on every device.

    acting: policy and variables. calls: `on_step` and `on_stage` of `evaluate`.
    """
    runner = blocks.BlockRunner(
        *acting,
        num_variants=len(part.variants),
        cost_limits=part.cost_limits,
        key=jax.random.key(config.seed),
        devices=config.devices,
        least=_worth_a_device(part.variants),
    )
    if config.target_return is not None:
        targets = [config.target_return] * len(part.cost_limits)
        runner.set_tokens(part.cost_limits, targets)
    size = min(runner.num_episodes, len(seeds))
    with VectorEnv(
        loaded.config.task,
        part.num_groups * size,
        num_workers=config.num_workers,
        shift=shifts.parse(config.shift).world,
        obs_std=loaded.spec.obs_spread,
        engine=config.engine,
        cluster=config.cluster,
    ) as envs:
        for first in range(0, len(seeds), size):
            yield runner.run(envs, seeds[first : first + size], *calls)


def _on_device(
    config: EvaluationConfig,
    task: Task,
    part: Pass,
    acting: tuple[Policy, Any],
    seeds: np.ndarray,
    calls: tuple[Callable | None, Callable | None],
    at_once: int,
) -> Iterator[blocks.BlockRun]:
    """The same in one program a block, the environment included."""
    if shifts.parse(config.shift).world != shifts.Shift():
        raise UserError(
            f"shift {config.shift!r}: changes the simulator's worlds; expected none, "
            "or an attack, on the device"
        )
    on_step, on_stage = calls
    return device_blocks.run(
        named.env_of(task),
        *acting,
        num_variants=len(part.variants),
        cost_limits=part.cost_limits,
        target_return=config.target_return,
        key=jax.random.key(config.seed),
        seeds=seeds,
        at_once=at_once,
        on_step=on_step,
        on_stage=on_stage,
    )


def _paths(part: Pass, out: blocks.BlockRun) -> Paths:
    """The paths of one block, rows variant by variant."""
    groups, count = out.cost.shape[:2]

    def rows(x):
        return x.reshape(groups * count, *x.shape[2:])

    return Paths(
        first_obs=np.tile(out.first_obs, (groups, 1)),
        pose=rows(out.pose).astype(np.float32),
        reward=rows(out.reward),
        cost=rows(out.cost),
        length=rows(out.length),
        variant=list(np.repeat(part.variants, len(part.cost_limits) * count)),
        episode_seed=np.tile(out.seeds, groups),
        layouts=out.layouts,
    )


def _joined(parts: list[Paths]) -> Paths:
    """The rows of several passes or blocks; shorter ones are filled up at their ends.

    Poses after an episode's last step are of no use, and so are zeros.
    """
    if len(parts) == 1:
        return parts[0]
    longest = max(part.reward.shape[1] for part in parts)

    def rows(name):
        arrays = [getattr(part, name) for part in parts]
        if name in ("pose", "reward", "cost"):
            room = [(0, 0)] + [(0, 0)] * (arrays[0].ndim - 1)
            arrays = [
                np.pad(x, [room[0], (0, longest - x.shape[1]), *room[2:]])
                for x in arrays
            ]
        return np.concatenate(arrays)

    names = ("first_obs", "pose", "reward", "cost", "length", "episode_seed")
    layouts = {seed: found for part in parts for seed, found in part.layouts.items()}
    return Paths(
        **{name: rows(name) for name in names},
        variant=[name for part in parts for name in part.variant],
        layouts=layouts,
    )


def _results(
    loaded: Checkpoint,
    config: EvaluationConfig,
    task: Task,
    part: Pass,
    out: blocks.BlockRun,
) -> list[EpisodeResult]:
    """Result rows of a block: every group's episodes, judged at their thresholds."""
    results = []
    references = task.references.or_range(loaded.spec.return_range)
    prompted = np.isfinite(out.diagnostics.get("prompt_ok", np.nan * out.length))
    seconds = out.align_seconds / max(int(prompted.sum()), 1)
    for group, episode in np.ndindex(out.cost.shape[:2]):
        variant, own = divmod(group, len(part.cost_limits))
        value = float(out.reward[group, episode].sum())
        cost = float(out.cost[group, episode].sum())
        known = {k: x[group, episode] for k, x in out.diagnostics.items()}
        ended = {k: x[group, episode] for k, x in out.ended.items()}
        is_fall = task.termination_fails and out.terminated[group, episode]
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
                    failed=bool(cost > 0 or is_fall),
                    normalized_return=float(references.normalized_return(value)),
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
    found |= of_plans(ended, length)
    if "drift" in ended:
        found |= {
            "drift": float(ended["drift"]),
            "drift_outside": float(ended["drift_outside"][index]),
            "drift_alarm": int(ended["drift_alarm"]),
        }
    return found


def of_plans(ended: dict[str, np.ndarray], length: int) -> dict[str, Any]:
    """Columns about the plans of an episode of `length` steps; none without plans.

    ended: the policy's diagnostics of that episode, at its end.
    """
    if not ended.get("num_plans", 0):
        return {}
    shares = ("plan_own", "plan_out", "plan_idle")
    names = (*shares, "plan_expected", "plan_realised", "plan_error")
    found: dict[str, Any] = {name: float(ended[name]) for name in names}
    found["num_plans"] = int(ended["num_plans"])
    found["plan_fallback"] = float(ended["plan_fallback"]) / max(length, 1)
    return found
