"""What plans would do if the world model were the world: copies of it are tried out.

A plan falls short for one of two reasons: its model foresees wrongly, or what it
chooses from (the policy's own imaginations and pushes of them, so many steps ahead)
holds nothing better. Here candidates are rolled out in copies of the real environment
as it is now, by the planning code as it stands. What cost is left then is not the
model's fault.

The copies know more than any model can: hazards that are out of the lidars' sight,
where gremlins are about to turn, and the very draws of chance that are to come. So it
is a bound from below, not a method.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback

from sas_jax.alignment.sequence_model import SequenceModel, step_output
from sas_jax.checkpoint import Checkpoint
from sas_jax.data.spec import DataSpec
from sas_jax.envs.branching.env import BranchingEnv
from sas_jax.evaluation.evaluate import of_plans
from sas_jax.files.results import EpisodeResult
from sas_jax.learners import sequence
from sas_jax.policies.teacher_forcing import at_present
from sas_jax.studies import branched_play

# What is added to an algorithm's name in a table of results.
TRUE_WORLD = "_true_world"


class Present:
    """Rolls candidates out in copies of an environment as it is now."""

    def __init__(self, env: BranchingEnv):
        self._env = env
        self._time_step = 0

    def at(self, time_step: int) -> None:
        """The real episode's time step, told before the policy acts."""
        self._time_step = time_step

    def __call__(self, time_step: np.ndarray, action: np.ndarray):
        """One step of n candidates, all at `time_step` `[n]`, under actions `[n, A]`.

        Candidates that are at the real episode's time step begin anew.

        Returns:
          obs `[n, O]`, reward `[n]` and cost `[n]`, float32.
        """
        if int(time_step[0]) == self._time_step:
            self._env.branch(len(action))
        tried = self._env.step_branches(action)
        return tuple(np.float32(x) for x in (tried.obs, tried.reward, tried.cost))


def world_model(
    model: SequenceModel, spec: DataSpec, roll: Callable[..., Any]
) -> SequenceModel:
    """A sequence model whose `advance` is the world's; its policy stays its own.

    roll: see `Present`; called once a step, for all candidates of one row.
    """
    std, mean = jnp.asarray(spec.obs_std), jnp.asarray(spec.obs_mean)

    def advance(variables, keys, state, observed, action, prompt, noise):
        del keys, noise  # the world draws by itself
        count = action.shape[0]
        # What comes back, in the order of `Present`.
        real = jax.ShapeDtypeStruct((count,), jnp.float32)
        sizes = (jax.ShapeDtypeStruct((count, spec.obs_dim), jnp.float32), real, real)
        obs, reward, cost = io_callback(
            roll, sizes, state.timestep, action, ordered=True
        )
        seen = state.obs * std[None] + mean[None]
        output = step_output(state, seen, action, reward, cost)
        # The world says no density.
        output = output.replace(log_density=jnp.zeros_like(cost))
        after = model.commit(variables, state, observed, action, prompt)
        after = at_present(
            after,
            model.standardise(obs),
            state.return_to_go - reward,
            state.cost_to_go - cost,
        )
        return output, after

    return model._replace(advance=advance)


def episodes(
    loaded: Checkpoint,
    variant: str,
    seeds: Iterable[int],
    *,
    cost_limit: float,
    is_true: bool,
    seed: int = 0,
    train_seed: int = 0,
) -> Iterator[EpisodeResult]:
    """Plays layouts one after the other, each a batch of one.

    Args:
      variant: that is played; its plans are tried out in the world where `is_true`,
        and imagined by its own model elsewhere.
      cost_limit: kappa. seed: base of the agent's draws.

    Yields:
      A row for each; its `algo` ends with `TRUE_WORLD` where `is_true`.

    Raises:
      UserError: an algorithm without a world model; see `task_of`.
    """
    task = branched_play.task_of_planner(loaded, train_seed)
    config, spec = loaded.config, loaded.spec
    references = task.references.or_range(spec.return_range)
    with BranchingEnv(task.name) as env:
        present, model = Present(env), None
        if is_true:
            model = world_model(
                sequence.make_sequence_model(config, spec), spec, present
            )
        for played in branched_play.play(
            loaded,
            variant,
            env,
            seeds,
            cost_limit=cost_limit,
            seed=seed,
            train_seed=train_seed,
            plan_model=model,
            before=present.at,
        ):
            value, cost = played.value, played.cost
            yield EpisodeResult(
                task=task.name,
                algo=config.algo + (TRUE_WORLD if is_true else ""),
                variant=variant,
                cost_limit=float(cost_limit),
                train_seed=config.train.seed + train_seed,
                episode_seed=played.layout,
                episode_return=value,
                cost=cost,
                length=played.length,
                failed=cost > 0,
                normalized_return=float(references.normalized_return(value)),
                normalized_cost=float(task.normalized_cost(cost, cost_limit)),
                **of_plans(played.told, played.length),
            )
