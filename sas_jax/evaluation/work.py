"""Which episodes an evaluation runs side by side, and which are left to run."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sas_jax import learners
from sas_jax.alignment.variants import VARIANTS
from sas_jax.envs import shift as shifts
from sas_jax.evaluation.config import EvaluationConfig
from sas_jax.experiment import ExperimentConfig
from sas_jax.files.results import EpisodeResult


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


def key_of(row: EpisodeResult) -> tuple:
    """What tells a row from the others of one checkpoint and its settings."""
    return row.variant, row.cost_limit, row.episode_seed, row.train_seed, row.shift


def keys_of(experiment: ExperimentConfig, config: EvaluationConfig) -> Iterator[tuple]:
    """The keys of all rows that an evaluation gives."""
    seeds = config.first_seed + np.arange(config.num_episodes)
    asked = itertools.product(config.variants, config.cost_limits, seeds.tolist())
    own = experiment.train.seed + config.train_seed, str(shifts.parse(config.shift))
    return ((*key, *own) for key in asked)


def work_of(
    experiment: ExperimentConfig,
    config: EvaluationConfig,
    done: Sequence[EpisodeResult] = (),
) -> list[tuple["Pass", np.ndarray]]:
    """What is left to run when the rows `done` are there: passes and their seeds `[E]`.

    Raises:
      UserError: see `passes_of`.
    """
    missing = set(keys_of(experiment, config)) - {key_of(row) for row in done}
    variants = tuple(v for v in config.variants if any(k[0] == v for k in missing))
    if not variants:
        return []
    work = []
    for part in passes_of(experiment, dataclasses.replace(config, variants=variants)):
        limits = part.judged or part.cost_limits
        seeds = {k[2] for k in missing if k[0] in part.variants and k[1] in limits}
        if seeds:
            work.append((part, np.array(sorted(seeds))))
    return work
