"""One environment in a process of its own, and copies of it that step by themselves.

A copy is the process, forked: simulator, random stream, timers of buttons, all that a
suite keeps wherever it keeps it. So it works for any suite without asking what its
state is, the real episode never notices, and a copy that is given the real actions sees
the same observations to the last bit.
"""

import sys
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from sas_jax.envs import imports, tasks
from sas_jax.envs.branching import worker
from sas_jax.envs.interface import check_action, check_seed
from sas_jax.envs.make import python_of, registration
from sas_jax.envs.vector.process import Process
from sas_jax.errors import UserError

_PATIENCE_SECONDS = 10.0


class Stepped(NamedTuple):
    """What a step brought, one row a copy (or no leading axis, the real episode).

    obs: `[..., O]` float64. reward, cost: `[...]`; 0 once an episode has ended, whose
    last observation then stays. is_last: `[...]` bool.
    """

    obs: np.ndarray
    reward: np.ndarray
    cost: np.ndarray
    is_last: np.ndarray


class BranchingEnv:
    """An environment whose present can be copied and tried out.

    with BranchingEnv("PointGoal1") as env:
        obs = env.reset(0)
        env.branch(4)                           # four copies of the present
        tried = env.step_branches(actions)      # [4, A]; env itself has not moved
        real = env.step(actions[tried.cost.argmin()])
    """

    def __init__(self, task_name: str):
        """Starts the process.

        Raises:
          UserError: an unknown task, or one whose suite cannot run here.
        """
        self.task = tasks.get_task(task_name)
        config = {
            "task": self.task.name,
            "registered": registration(self.task),
            "imports": imports.MODULES,
            "path": [folder for folder in sys.path if folder],
        }
        python = python_of(self.task) or sys.executable
        self._process = Process(python, worker.__file__, config)
        self._commands = Connection(self._process.commands, readable=False)
        self._replies = Connection(self._process.replies, writable=False)
        self._num_branches = 0
        try:
            self._ask("start")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "BranchingEnv":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def reset(self, seed: int) -> np.ndarray:
        """Starts the episode that `seed` names; its first observation `[O]`."""
        self._num_branches = 0
        return self._ask("reset", check_seed(seed))

    def step(self, action: np.ndarray) -> Stepped:
        """One step `[A]` of the real episode. Copies stay where they are."""
        return Stepped(*self._ask("step", check_action(action, self.task)))

    def branch(self, count: int) -> None:
        """Makes `count` copies of the present; those of before are gone.

        Raises:
          UserError: a count below 1.
        """
        if count < 1:
            raise UserError(f"branch: {count} copies; expected at least 1")
        self._ask("branch", count)
        self._num_branches = count

    def step_branches(self, actions: np.ndarray) -> Stepped:
        """One step of every copy, `[n, A]`.

        Raises:
          UserError: another number of actions than there are copies.
        """
        actions = np.asarray(actions, np.float64)
        if len(actions) != self._num_branches:
            raise UserError(
                f"step_branches: {len(actions)} actions for {self._num_branches} "
                "copies; expected one each"
            )
        checked = [check_action(action, self.task) for action in actions]
        return Stepped(*map(np.stack, zip(*self._ask("attempt", checked), strict=True)))

    def close(self) -> None:
        """Ends the process and its copies."""
        self._commands.close()
        self._replies.close()
        self._process.wait(_PATIENCE_SECONDS)

    def _ask(self, what: str, value: Any = None) -> Any:
        try:
            self._commands.send((what, value))
            is_good, answer = self._replies.recv()
        except (EOFError, OSError):
            raise UserError(
                f"the process of {self.task.name} has ended; its stderr says why"
            ) from None
        if not is_good:
            raise UserError(answer)
        return answer
