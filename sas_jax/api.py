"""From a path to a policy that can be aligned, in one call."""

from pathlib import Path
from typing import Any, NamedTuple

import jax

from sas_jax import checkpoint
from sas_jax.alignment.carry import Policy
from sas_jax.alignment.variants import check_variants, critic_of
from sas_jax.critic.file import load_critic
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners import sequence


class LoadedPolicy(NamedTuple):
    """A checkpoint's policy and the parameters that all its functions take first.

    policy: see `Policy`. variables: "params" and "variances". config, spec: of the
    checkpoint. card: the world-model card measured when training ended, or None.
    """

    policy: Policy
    variables: dict[str, Any]
    config: ExperimentConfig
    spec: DataSpec
    card: dict[str, Any] | None


def load_policy(
    workdir: str | Path,
    *,
    variants: tuple[str, ...] = ("sas",),
    step: int | None = None,
    train_seed: int = 0,
    critic: str | Path | None = None,
) -> LoadedPolicy:
    """Loads a checkpoint's policy under the given variants.

    Args:
      workdir: folder written by experiments.train. variants: see `variants.VARIANTS`.
      step: training step, None for the last. train_seed: index of the training seed.
      critic: file of experiments.critic, for the variants that need a cost critic.

    Raises:
      UserError: see `checkpoint.load`; an unknown variant or training seed.
    """
    loaded = checkpoint.load(workdir, step)
    seeds = loaded.config.train.num_seeds
    if not 0 <= train_seed < seeds:
        raise UserError(
            f"train_seed: {train_seed}; the checkpoint holds {seeds} seed(s), from 0"
        )
    variants = check_variants(tuple(variants))
    if critic is None and (critical := critic_of(variants)):
        raise UserError(
            f"variants: {critical} needs a cost critic; expected critic=, a file of "
            "experiments.critic"
        )
    state = jax.tree.map(lambda x: x[train_seed], loaded.state)
    variables = sequence.variables_of(state)
    if critic is not None:
        variables["critic"] = load_critic(critic, loaded.spec)
    return LoadedPolicy(
        policy=sequence.make_policy(loaded.config, loaded.spec, variants=variants),
        variables=variables,
        config=loaded.config,
        spec=loaded.spec,
        card=loaded.card,
    )
