"""Does a policy obey its tokens? Episodes over a grid of return and cost targets.

All pairs of targets run on the same layouts, with the same noise of the actions, one
pair at a time: targets are values, so one program serves them all. An episode depends
on its seed, its pair, the base seed and the checkpoint alone, so a run that was stopped
goes on with what is missing.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from sas_jax import config as config_lib
from sas_jax import learners
from sas_jax.checkpoint import Checkpoint
from sas_jax.config import SEEDS, Number, check
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.errors import UserError
from sas_jax.evaluation import blocks
from sas_jax.evaluation.evaluate import task_of
from sas_jax.evaluation.targets import (
    check_cost_limits,
    check_target_returns,
    warn_outside,
)
from sas_jax.report.tokens import TokenResult

# (return target, cost limit, seeds [E]) -> returns [E], costs [E].
Ask = Callable[[float, float, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class TokenConfig:
    """What to ask for.

    target_returns, cost_limits: the grid. A policy without cost tokens runs each return
      target once, whatever the limits.
    num_episodes: layouts, seeds first_seed, first_seed + 1, ... seed: base of the
      agent's draws. train_seed: index of the checkpoint's training seed.
    num_workers: environment processes; None means one a core.
    """

    target_returns: tuple[float, ...]
    cost_limits: tuple[float, ...] = (20.0, 40.0, 80.0)
    num_episodes: int = 128
    first_seed: int = 1_000_000
    seed: int = 0
    train_seed: int = 0
    num_workers: int | None = None

    def __post_init__(self):
        check_target_returns(self.target_returns)
        check_cost_limits(self.cost_limits)
        seed = Number(least=0, below=SEEDS, whole=True)
        rules = {
            "num_episodes": Number(least=1, whole=True),
            "num_workers": Number(least=1, whole=True, optional=True),
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


def grid_of(loaded: Checkpoint, config: TokenConfig) -> list[tuple[float, float]]:
    """Pairs (target return, cost limit) to run; NaN limits without cost tokens."""
    limits = config.cost_limits
    if not learners.get(loaded.config.algo).sees_cost_limit:
        limits = (math.nan,)
    return [(t, limit) for t in config.target_returns for limit in limits]


def run_name(loaded: Checkpoint, config: TokenConfig) -> str:
    """Eight hex digits that name policy and draws: what rows of one file share."""
    text = json.dumps(
        [
            config_lib.to_dict(loaded.config),
            loaded.spec.fingerprint,
            loaded.step,
            config.train_seed,
            config.seed,
        ],
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def follow_tokens(
    loaded: Checkpoint,
    config: TokenConfig,
    *,
    done: Sequence[TokenResult] = (),
    on_step: Callable[[int], None] | None = None,
    on_rows: Callable[[list[TokenResult]], None] | None = None,
) -> list[TokenResult]:
    """Runs variant `none` on every pair of the grid.

    Args:
      loaded: checkpoint. config: what to ask for.
      done: rows of an earlier, unfinished call, which are not run again.
      on_step: called with the number of environment steps just made.
      on_rows: called with all rows so far, sorted, whenever there are new ones.

    Returns:
      The grid's rows, those of `done` included, by episode seed, target and limit.

    Raises:
      UserError: settings that do not fit the checkpoint, or rows of another run.
    """
    if learners.get(loaded.config.algo).sees_cost_limit:
        warn_outside(loaded.spec, config.cost_limits)
    name, grid = run_name(loaded, config), grid_of(loaded, config)
    for row in done:
        if row.run != name:
            raise UserError(
                f"rows of run {row.run!r} were given to go on from; expected those of "
                f"{name!r}, this checkpoint and these settings"
            )
    rows = {(row.episode_seed, row.tokens): row for row in done}
    size = min(blocks.BLOCK, config.num_episodes)
    seeds = config.first_seed + np.arange(config.num_episodes)
    with asking(
        loaded,
        seed=config.seed,
        train_seed=config.train_seed,
        at_once=size,
        num_workers=config.num_workers,
        on_step=on_step,
    ) as ask:
        for first in range(0, config.num_episodes, size):
            block = seeds[first : first + size]
            for target, limit in grid:
                blank = TokenResult(target, limit, 0, 0.0, 0.0, name)
                missing = [s for s in block if (int(s), blank.tokens) not in rows]
                if not missing:
                    continue
                found = ask(target, limit, np.array(missing))
                for seed, value, cost in zip(missing, *found, strict=True):
                    row = dataclasses.replace(
                        blank,
                        episode_seed=int(seed),
                        episode_return=float(value),
                        cost=float(cost),
                    )
                    rows[row.episode_seed, row.tokens] = row
                if on_rows:
                    on_rows(_sorted(rows))
    asked = {TokenResult(t, limit, 0, 0.0, 0.0, name).tokens for t, limit in grid}
    known = {int(seed) for seed in seeds}
    return _sorted(
        {k: row for k, row in rows.items() if k[0] in known and k[1] in asked}
    )


@contextlib.contextmanager
def asking(
    loaded: Checkpoint,
    *,
    seed: int = 0,
    train_seed: int = 0,
    at_once: int = blocks.BLOCK,
    num_workers: int | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Iterator[Ask]:
    """Yields what runs `none` for a return target and a cost limit on some layouts.

    One program serves all of them. A limit of NaN is for policies that see none.

    Args:
      seed: base of the agent's draws. train_seed: index of the checkpoint's training
        seed. at_once: environments; at most `blocks.BLOCK`.
      on_step: called with the number of environment steps just made.

    Raises:
      UserError: a policy without return tokens, or of another task's sizes.
    """
    task = task_of(loaded, train_seed)
    algorithm = learners.get(loaded.config.algo)
    if not algorithm.has_return_token:
        raise UserError(
            f"algo {algorithm.name!r}: expected a policy with return tokens"
        )
    lane = loaded.config.train.lane_of(train_seed)
    state = jax.tree.map(lambda x: x[lane], loaded.state)
    runner = blocks.BlockRunner(
        algorithm.make_policy(loaded.config, loaded.spec, variants=("none",)),
        algorithm.variables_of(state),
        num_variants=1,
        cost_limits=(0.0,),
        key=jax.random.key(seed),
    )
    with VectorEnv(task.name, at_once, num_workers=num_workers) as envs:

        def ask(target: float, limit: float, seeds: np.ndarray):
            # A policy without cost tokens ignores the number.
            runner.set_tokens([0.0 if math.isnan(limit) else limit], [target])
            runs = [
                runner.run(envs, seeds[i : i + at_once], on_step)
                for i in range(0, len(seeds), at_once)
            ]
            values = [run.reward[0].sum(axis=1) for run in runs]
            costs = [run.cost[0].sum(axis=1) for run in runs]
            return np.concatenate(values), np.concatenate(costs)

        yield ask


def _sorted(rows: dict) -> list[TokenResult]:
    """By seed and tokens; the limit of a policy without cost tokens counts as 0."""
    order = sorted(rows, key=lambda key: (key[0], key[1][0], key[1][1] or 0.0))
    return [rows[key] for key in order]
