"""From a path to a policy that can be aligned, in one call."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import jax

from sas_jax import checkpoint, learners, risks
from sas_jax.alignment import simulator
from sas_jax.alignment.variants import check_companions
from sas_jax.data.spec import DataSpec
from sas_jax.envs.tasks import TASKS
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig
from sas_jax.files.places import as_path
from sas_jax.types import Policy


class LoadedPolicy(NamedTuple):
    """A checkpoint's policy and the parameters that all its functions take first.

    policy: see `types.Policy`. variables: as its functions take them. config, spec: of
    the checkpoint. card: the world-model card measured when training ended, or None.
    """

    policy: Policy
    variables: dict[str, Any]
    config: ExperimentConfig
    spec: DataSpec
    card: dict[str, Any] | None


def load_policy(
    workdir: str | Path,
    *,
    variants: tuple[str, ...] | None = None,
    step: int | None = None,
    train_seed: int = 0,
    cost_limit: float | None = None,
    critic: str | Path | None = None,
    asking: str | Path | None = None,
    support: str | Path | None = None,
) -> LoadedPolicy:
    """Loads a checkpoint's policy under the given variants.

    Args:
      workdir: folder written by experiments.train. variants: of the algorithm, for DT
        and CDT those of `variants.VARIANTS`; None means "sas" where there is a world
        model, else "none".
      step: training step, None for the last. train_seed: index of the training seed.
      cost_limit: whose parameters, where each threshold has its own; None means the
        first.
      critic: for the variants that need a cost critic: a file of experiments.critic, or
        a checkpoint of an algorithm with one (`risks`).
      asking: file of experiments.asking, for those that learnt which return to ask for.
      support: file of experiments.support, for those whose plans keep to the data.

    Raises:
      UserError: see `checkpoint.load`; an unknown variant, training seed or threshold.
    """
    loaded = checkpoint.load(workdir, step)
    algorithm, train = learners.get(loaded.config.algo), loaded.config.train
    if cost_limit is None:
        cost_limit = (train.cost_limits or (math.nan,))[0]
    lane = train.lane_of(train_seed, cost_limit)
    if variants is None:
        variants = ("sas",) if algorithm.has_world_model else ("none",)
    if isinstance(variants, str):
        raise UserError(f"variants: {variants!r}; expected a tuple, ({variants!r},)")
    variants = algorithm.check_variants(tuple(variants))
    files = {"critic": critic, "asking": asking, "support": support}
    check_companions(variants, files)
    variables = algorithm.variables_of(jax.tree.map(lambda x: x[lane], loaded.state))
    variables |= risks.companions(loaded.spec, **files)
    return LoadedPolicy(
        policy=algorithm.make_policy(loaded.config, loaded.spec, variants=variants),
        variables=variables,
        config=loaded.config,
        spec=loaded.spec,
        card=loaded.card,
    )


class AlignedPolicy(simulator.AlignedPolicy):
    """Aligns when episodes begin, then acts, one episode or a batch of them at a time.

        policy = sas_jax.AlignedPolicy.from_checkpoint("runs/pg1_dt")
        policy.reset(obs, seed=7)
        action = policy.act(obs)
        action = policy.act(obs, reward, cost)  # of the step just made, and so on

    See `alignment.simulator.AlignedPolicy`, which takes any sequence model.
    """

    @classmethod
    def from_checkpoint(
        cls,
        workdir: str | Path,
        *,
        variant: str | None = None,
        target_return: float | None = None,
        cost_limit: float | None = None,
        seed: int = 0,
        step: int | None = None,
        train_seed: int = 0,
        critic: str | Path | None = None,
        asking: str | Path | None = None,
        support: str | Path | None = None,
    ) -> "AlignedPolicy":
        """A trained policy of any algorithm here, ready for a simulator's loop.

        Args:
          workdir: folder written by experiments.train.
          variant: of the algorithm; None means "sas" where there is a world model, else
            "none".
          target_return, cost_limit: where `reset` names none. None means the
            checkpoint's own: the target of its data, and the threshold that its
            parameters are for, or else the task's first.
          seed: base of every draw. step: training step, None for the last.
          train_seed: index of the training seed.
          critic: file of experiments.critic, for the variants that need one.
          asking: file of experiments.asking, likewise.
          support: file of experiments.support, likewise.

        Raises:
          UserError: see `load_policy`; a target that is not finite.
        """
        loaded = load_policy(
            workdir,
            variants=None if variant is None else (variant,),
            step=step,
            train_seed=train_seed,
            cost_limit=cost_limit if _is_by_threshold(workdir, step) else None,
            critic=critic,
            asking=asking,
            support=support,
        )
        targets = targets_of(loaded, target_return, cost_limit)
        simulator.check_finite(target_return=targets[0], cost_limit=targets[1])
        self = cls.__new__(cls)

        def initial_carry(variables, rows, key, obs_dim):
            del obs_dim  # the data's, which the policy knows
            return loaded.policy.initial_carry(variables, rows, key)

        self._take(
            loaded.policy,
            loaded.variables,
            targets=targets,
            obs_dim=loaded.spec.obs_dim,
            key=jax.random.key(seed),
            initial_carry=jax.jit(initial_carry, static_argnames="obs_dim"),
        )
        return self

    @property
    def targets(self) -> tuple[float, float]:
        """Target return and cost limit of episodes where `reset` names none."""
        return self._defaults


def _is_by_threshold(workdir: str | Path, step: int | None) -> bool:
    """Whether each threshold has parameters of its own."""
    if as_path(workdir).is_file():
        return bool(checkpoint.load(workdir, step).config.train.cost_limits)
    steps = dict(checkpoint.list_steps(workdir))
    config = steps.get(step) if step is not None else steps[max(steps)]
    return config is not None and bool(config.train.cost_limits)


def targets_of(
    loaded: LoadedPolicy, target_return: float | None, cost_limit: float | None
) -> tuple[float, float]:
    """Target return and cost limit, those of the checkpoint where None is given."""
    if target_return is None:
        target_return = loaded.spec.target_return
    if cost_limit is None:
        task = TASKS.get(loaded.config.task)
        known = loaded.config.train.cost_limits or (task.cost_limits if task else ())
        cost_limit = known[0] if known else 0.0
    return float(target_return), float(cost_limit)
