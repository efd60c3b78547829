"""From a path to a policy that can be aligned, in one call."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import jax

from sas_jax import checkpoint, learners
from sas_jax.alignment.variants import critic_of
from sas_jax.critic.file import load_critic
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig
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
) -> LoadedPolicy:
    """Loads a checkpoint's policy under the given variants.

    Args:
      workdir: folder written by experiments.train. variants: of the algorithm, for DT
        and CDT those of `variants.VARIANTS`; None means "sas" where there is a world
        model, else "none".
      step: training step, None for the last. train_seed: index of the training seed.
      cost_limit: whose parameters, where each threshold has its own; None means the
        first.
      critic: file of experiments.critic, for the variants that need a cost critic.

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
    if critic is None and (critical := critic_of(variants)):
        raise UserError(
            f"variants: {critical} needs a cost critic; expected critic=, a file of "
            "experiments.critic"
        )
    variables = algorithm.variables_of(jax.tree.map(lambda x: x[lane], loaded.state))
    if critic is not None:
        variables["critic"] = load_critic(critic, loaded.spec)
    return LoadedPolicy(
        policy=algorithm.make_policy(loaded.config, loaded.spec, variants=variants),
        variables=variables,
        config=loaded.config,
        spec=loaded.spec,
        card=loaded.card,
    )
