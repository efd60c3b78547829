"""One episode of one variant, played by itself to be looked at.

Its rows are a batch of one, whose products round otherwise than those of a block of
evaluation, and closed-loop episodes are chaotic: its cost is not the table's.
"""

from typing import NamedTuple

import jax
import numpy as np

from sas_jax import learners
from sas_jax.checkpoint import Checkpoint
from sas_jax.envs.vector.env import StepBatch, VectorEnv
from sas_jax.errors import UserError
from sas_jax.evaluation.evaluate import task_of
from sas_jax.types import Rows, TimeStep


class ImaginedPlans(NamedTuple):
    """The candidates of one plan.

    step: at which it was made. obs: `[N, T, O]` what each expects to see; cost:
    `[N, T]`. is_in: `[N]` bool, which could be chosen. chosen: index; -1 where none
    could.
    """

    step: int
    obs: np.ndarray
    cost: np.ndarray
    is_in: np.ndarray
    chosen: int


class Watched(NamedTuple):
    """An episode of T steps.

    obs: `[T, O]`. pose: `[T, 6]` before each step. reward, cost: `[T]`. layout: name ->
    `[k, 3]` at the start. plans: those that were made; none of variants without.
    """

    obs: np.ndarray
    pose: np.ndarray
    reward: np.ndarray
    cost: np.ndarray
    layout: dict[str, np.ndarray]
    plans: list[ImaginedPlans]


def watch(
    loaded: Checkpoint,
    variant: str,
    episode_seed: int,
    *,
    cost_limit: float,
    seed: int = 0,
    train_seed: int = 0,
) -> Watched:
    """Plays the layout `episode_seed` to its end.

    cost_limit: kappa that the policy acts under. seed: base of the agent's draws.

    Raises:
      UserError: a variant that the policy lacks; a checkpoint of another task's sizes.
    """
    algorithm = learners.get(loaded.config.algo)
    if not algorithm.has_world_model:
        raise UserError(
            f"checkpoint of algo {loaded.config.algo!r}: there is no imagination to "
            "watch; expected a sequence model"
        )
    task = task_of(loaded, train_seed)
    policy = algorithm.make_policy(
        loaded.config, loaded.spec, variants=(variant,), keeps_candidates=True
    )
    lane = loaded.config.train.lane_of(train_seed, cost_limit)
    variables = algorithm.variables_of(jax.tree.map(lambda x: x[lane], loaded.state))
    key = jax.random.key(seed)
    start, begin = jax.jit(policy.initial_carry), jax.jit(policy.begin)
    act = jax.jit(policy.act, donate_argnums=1)
    steps, plans, num_plans = [], [], 0
    with VectorEnv(task.name, 1, num_workers=1) as envs:
        batch = envs.reset(np.array([episode_seed]))
        layout = envs.layout(0)
        rows = Rows(
            cost_limit=np.float32([cost_limit]), episode_seed=np.uint32([episode_seed])
        )
        carry = start(variables, rows, key)
        carry = begin(variables, carry, time_step(batch), key)
        while not batch.is_last[0]:
            before = batch
            action, carry = act(variables, carry, time_step(batch), key)
            made = 0 if carry.plan is None else int(carry.plan.num_plans[0])
            if made > num_plans:
                num_plans = made
                plans.append(_plans(len(steps), carry.plan))
            batch = envs.step(np.asarray(action))
            steps.append(
                (before.obs[0], before.pose[0], batch.reward[0], batch.cost[0])
            )
    obs, pose, reward, cost = (np.stack(x) for x in zip(*steps, strict=True))
    return Watched(obs, pose, reward, cost, layout, plans)


def time_step(batch: StepBatch) -> TimeStep:
    """What an agent may see of what the environments just answered."""
    return TimeStep(
        np.float32(batch.obs),
        np.float32(batch.reward),
        np.float32(batch.cost),
        batch.is_first,
    )


def _plans(step: int, plan) -> ImaginedPlans:
    seen = jax.device_get(plan.seen)
    chosen = int(seen.chosen[0]) if plan.is_kept[0] else -1
    return ImaginedPlans(step, seen.obs[0], seen.cost[0], seen.is_in[0], chosen)
