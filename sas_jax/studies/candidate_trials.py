"""What a plan's candidates promise, and what they bring in the world itself.

At some of the plans of real episodes, every candidate's actions are executed in a copy
of the environment as it is then. So one sees how right the model is about what it is
asked: which of these candidates costs less, which returns more. And what is lost by it:
the same rule chooses once more, with the true costs, the true rewards, or both.

Actions are executed as they were imagined. What the policy would have done when it saw
the world go another way is another question (`true_world`).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.alignment.carry import Carry
from sas_jax.alignment.config import PlanConfig, SASConfig
from sas_jax.alignment.rules import RULES, Candidates
from sas_jax.alignment.variants import VARIANTS
from sas_jax.checkpoint import Checkpoint
from sas_jax.envs.branching.env import BranchingEnv
from sas_jax.studies import branched_play

# A row for each candidate; of each of these one column for so many steps each.
SUMS = ("imagined_reward", "real_reward", "imagined_cost", "real_cost")
SPEEDS = ("imagined_speed", "real_speed")
# Which outcome the rule is told: imagined or real reward, imagined or real cost.
TOLD = {
    "as it was": ("imagined", "imagined"),
    "costs known": ("imagined", "real"),
    "rewards known": ("real", "imagined"),
    "both known": ("real", "real"),
}


def horizons(plan: PlanConfig) -> tuple[int, ...]:
    """Steps over which sums are kept: those executed, half of the horizon, all."""
    return tuple(sorted({plan.execute, max(plan.horizon // 2, 1), plan.horizon}))


def trials(
    loaded: Checkpoint,
    variant: str,
    layouts: Iterable[int],
    *,
    cost_limit: float,
    every: int = 5,
    seed: int = 0,
    train_seed: int = 0,
) -> Iterator[list[dict[str, Any]]]:
    """Plays layouts under a variant that plans, and tries candidates out.

    Args:
      every: one of so many plans is tried out, the first one first. Plans that reach
        beyond the episode are not.
      cost_limit, seed, train_seed: see `branched_play.play`.

    Yields:
      The rows of a layout: `episode_seed`, `step`, `candidate`, `is_reference`,
      `is_chosen`, `is_executed` (False where the policy acted), `allowed` cost, and of
      each of `SUMS` one value a horizon, such as `real_cost_50`. Where the task has a
      velocimeter, so of `SPEEDS`: mean m/s of the states between these steps.

    Raises:
      UserError: an algorithm without a world model; see `task_of`.
    """
    task = branched_play.task_of_planner(loaded, train_seed)
    plan = loaded.config.sas.plan
    steps, found = horizons(plan), []
    sensor = task.obs_groups.get("velocimeter")
    with BranchingEnv(task.name) as env:

        def look(layout: int, time_step: int, carry: Carry) -> None:
            assert carry.plan is not None  # the variant plans
            # One step of it has just been chosen.
            is_new = carry.plan.age[0] == 1
            is_asked = (carry.plan.num_plans[0] - 1) % every == 0
            is_whole = time_step + plan.horizon <= task.episode_steps
            if is_new and is_asked and is_whole:
                known = {"episode_seed": layout, "step": time_step}
                rows = _tried(env, carry.plan, plan.num_reference, steps, sensor)
                found.extend(known | row for row in rows)

        for _ in branched_play.play(
            loaded,
            variant,
            env,
            layouts,
            cost_limit=cost_limit,
            seed=seed,
            train_seed=train_seed,
            keeps_candidates=True,
            after=look,
        ):
            yield found.copy()
            found.clear()


def speeds(obs: np.ndarray, velocimeter: slice, count: int) -> np.ndarray:
    """Mean speed `[N]`, m/s, of the states between `count` steps (of two at least).

    obs: `[N, T, O]` after each step.
    """
    between = obs[:, : max(count - 1, 1), velocimeter]
    return np.sqrt(np.square(between[..., :2]).sum(axis=-1)).mean(axis=1)


def _tried(env, plan, num_reference: int, steps: Sequence[int], sensor: slice | None):
    """The candidates of the plan just made, a row each.

    sensor: of their speed; None where there is none.
    """
    seen = jax.device_get(plan.seen)
    action = seen.action[0]
    env.branch(len(action))
    tried = [env.step_branches(action[:, t]) for t in range(action.shape[1])]
    sums = {
        "imagined_reward": seen.reward[0],
        "real_reward": np.stack([step.reward for step in tried], axis=1),
        "imagined_cost": seen.cost[0],
        "real_cost": np.stack([step.cost for step in tried], axis=1),
    }
    values = {
        f"{name}_{count}": x[:, :count].sum(axis=1)
        for name, x in sums.items()
        for count in steps
    }
    if sensor is not None and action.shape[1] > 1:
        # Imagined states are those before each step.
        after = seen.obs[0][:, 1:], np.stack([step.obs for step in tried], axis=1)
        values |= {
            f"{name}_{count}": speeds(obs, sensor, count)
            for name, obs in zip(SPEEDS, after, strict=True)
            for count in steps
        }
    for index in range(len(action)):
        yield {
            "candidate": index,
            "is_reference": int(index < num_reference),
            "is_chosen": int(index == seen.chosen[0]),
            "is_executed": int(plan.is_kept[0]),
            "allowed": float(seen.allowed[0]),
            **{name: round(float(x[index]), 3) for name, x in values.items()},
        }


class Agreement(NamedTuple):
    """How right imagined sums are, of P plans with N candidates.

    imagined, real: means. correlation: over all candidates; within: of what is left
    when each plan's mean is taken away, the differences that a choice is made by. NaN
    where nothing differs.
    """

    imagined: float
    real: float
    correlation: float
    within: float


def agreement(imagined: np.ndarray, real: np.ndarray) -> Agreement:
    """Of sums `[P, N]`."""
    apart = (x - x.mean(axis=1, keepdims=True) for x in (imagined, real))
    return Agreement(
        float(imagined.mean()),
        float(real.mean()),
        _correlation(imagined, real),
        _correlation(*apart),
    )


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    if x.std() < 1e-12 or y.std() < 1e-12:
        return float("nan")
    return float(np.corrcoef(x.ravel(), y.ravel())[0, 1])


def rechosen(
    variant: str,
    config: SASConfig,
    reward: np.ndarray,
    cost: np.ndarray,
    allowed: np.ndarray,
) -> np.ndarray:
    """`[P]` the candidate that the variant's rule takes, told other sums.

    reward, cost: `[P, N]`. allowed: `[P]` cost.
    """
    name = VARIANTS[variant].plan
    assert name is not None  # the variant plans

    def one(reward, cost, allowed):
        seen = Candidates(
            energies=jnp.zeros((reward.size, 1)),
            reward=reward[:, None],
            cost=cost[:, None],
            risk=None,
            level=jnp.zeros(()),
            cost_limits=allowed[None],
            num_steps=jnp.ones((), jnp.int32),
            counts=jnp.ones(1, bool),
            is_valid=jnp.ones(reward.shape, bool),
        )
        return RULES[name].choose(jax.random.key(0), seen, config).index

    told = (jnp.asarray(x, jnp.float32) for x in (reward, cost, allowed))
    return np.asarray(jax.vmap(one)(*told))
