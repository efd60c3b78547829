"""Episodes played in an environment whose present can be copied, one at a time."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from sas_jax import checkpoint, learners
from sas_jax import config as config_lib
from sas_jax.alignment.carry import Carry
from sas_jax.alignment.sequence_model import SequenceModel
from sas_jax.checkpoint import Checkpoint
from sas_jax.envs.branching.env import BranchingEnv
from sas_jax.envs.tasks import Task
from sas_jax.errors import UserError
from sas_jax.evaluation.evaluate import task_of
from sas_jax.learners import sequence
from sas_jax.types import Rows, TimeStep


class Played(NamedTuple):
    """An episode that has ended.

    layout: its seed. value, cost: its sums. length: in steps. told: the policy's
    diagnostics of it, name -> value.
    """

    layout: int
    value: float
    cost: float
    length: int
    told: dict[str, Any]


def task_of_planner(loaded: Checkpoint, train_seed: int) -> Task:
    """The task of a checkpoint that can plan.

    Raises:
      UserError: an algorithm without a world model; see `task_of`.
    """
    if not learners.get(loaded.config.algo).has_world_model:
        raise UserError(
            f"checkpoint of algo {loaded.config.algo!r}: it does not plan; expected a "
            "sequence model"
        )
    return task_of(loaded, train_seed)


def run_of(loaded: Checkpoint, *decided: Any) -> str:
    """12 hexadecimal digits of what decides how a layout is played.

    decided: plain values besides the checkpoint and its settings, such as the
      threshold.
    """
    known = [checkpoint.digest_of(loaded), config_lib.to_dict(loaded.config.sas)]
    text = json.dumps([*known, *decided], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def play(
    loaded: Checkpoint,
    variant: str,
    env: BranchingEnv,
    layouts: Iterable[int],
    *,
    cost_limit: float,
    seed: int = 0,
    train_seed: int = 0,
    plan_model: SequenceModel | None = None,
    keeps_candidates: bool = False,
    before: Callable[[int], None] | None = None,
    after: Callable[[int, int, Carry], None] | None = None,
) -> Iterator[Played]:
    """Plays layouts one after the other, each a batch of one.

    Args:
      loaded: see `task_of_planner`, which looks whether it can.
      env: where.
      cost_limit: kappa. seed: base of the agent's draws.
      plan_model, keeps_candidates: see `sequence.make_policy`.
      before: called with the time step, before the policy acts on it. after: with the
        layout, the time step and what the policy carries, when it has chosen its action
        and the world has not moved yet.
    """
    config, spec = loaded.config, loaded.spec
    lane = config.train.lane_of(train_seed, cost_limit)
    algorithm = learners.get(config.algo)
    variables = algorithm.variables_of(jax.tree.map(lambda x: x[lane], loaded.state))
    key = jax.random.key(seed)
    policy = sequence.make_policy(
        config,
        spec,
        variants=(variant,),
        plan_model=plan_model,
        keeps_candidates=keeps_candidates,
    )
    start, begin = jax.jit(policy.initial_carry), jax.jit(policy.begin)
    act = jax.jit(policy.act, donate_argnums=1)
    for layout in layouts:
        now = _time_step(env.reset(layout), 0.0, 0.0, is_first=True)
        rows = Rows(
            cost_limit=np.float32([cost_limit]), episode_seed=np.uint32([layout])
        )
        carry = begin(variables, start(variables, rows, key), now, key)
        total, length = np.zeros(2), 0
        while True:
            if before is not None:
                before(length)
            action, carry = act(variables, carry, now, key)
            if after is not None:
                after(layout, length, carry)
            made = env.step(np.asarray(action)[0])
            total += made.reward, made.cost
            length += 1
            if made.is_last:
                break
            now = _time_step(made.obs, made.reward, made.cost, is_first=False)
        told = jax.device_get(policy.diagnostics(carry))
        told = {name: x[0] for name, x in told.items()}
        yield Played(layout, float(total[0]), float(total[1]), length, told)


def _time_step(obs, reward, cost, *, is_first: bool) -> TimeStep:
    rewards, costs = np.float32([reward]), np.float32([cost])
    return TimeStep(np.float32(obs)[None], rewards, costs, np.array([is_first]))
