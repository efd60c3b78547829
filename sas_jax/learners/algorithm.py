"""What an algorithm offers: its settings, its learner, its policy."""

import dataclasses
from collections.abc import Callable
from typing import Any

from sas_jax.alignment.gate import RiskModel
from sas_jax.data.episodes import Episodes
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners import checked
from sas_jax.types import Learner, Policy, TrainState


def only_none(variants: tuple[str, ...]) -> tuple[str, ...]:
    """Checks the variants of a policy that is acted with as it is."""
    if tuple(variants) != ("none",):
        raise UserError(
            f"variants: {', '.join(variants) or 'nothing'}; this policy has 'none' "
            "only: there is no world model to align it with"
        )
    return ("none",)


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """One entry of the registry. What it makes is checked: see `checked`.

    name: what `ExperimentConfig.algo` says. config_class: of `ExperimentConfig.model`.
    default_config(task) -> ExperimentConfig.
    make_learner(config, spec) -> Learner: all that training and checkpoints build.
    make_policy(config, spec, *, variants, report_limits=None) -> Policy.
      report_limits: thresholds that its diagnostics report on; None means each row's.
    variables_of(state) -> what the policy's functions read of a training state.
    to_device(config, spec, episodes, *, is_training) -> what `Learner.sample` draws
      from, a pytree on the device. is_training: held-out episodes otherwise.
    check(config): UserError for settings that do not fit one another.
    check_data(config, episodes): UserError for episodes that cannot be trained on.
    context(config) -> steps that the policy sees at a time.
    check_variants(variants) -> variants; UserError for one that the policy lacks.
    default_variants: what evaluation runs unless told otherwise.
    groups: which of "sas", "policy" and "data" of the settings it reads.
    has_world_model: there is one to imagine with, so that there is a card.
    has_return_token: the policy acts on a target return.
    sees_cost_limit: the policy acts on the threshold of its row.
    by_threshold: it trains a lane of its own for each of `train.cost_limits`.
    is_extensible: a step does not depend on how many are to come; see `longer`.
    make_explorer(config, spec) -> (variables, standardised observations `[B, O]`, key)
      -> actions `[B, A]`, of algorithms that act while they learn (see `online`); None
      for those that learn from recorded data.
    make_risk(config, spec) -> RiskModel of the cost critic that it learns, in its own
      units of observations; None where it learns none. See `risks`.
    """

    name: str
    config_class: type
    default_config: Callable[[str], ExperimentConfig]
    make_learner: Callable[[ExperimentConfig, DataSpec], Learner]
    make_policy: Callable[..., Policy]
    variables_of: Callable[[TrainState], dict[str, Any]]
    to_device: Callable[..., Any]
    check: Callable[[ExperimentConfig], None] = lambda config: None
    check_data: Callable[[ExperimentConfig, Episodes], None] = lambda config, data: None
    context: Callable[[ExperimentConfig], int] = lambda config: 1
    check_variants: Callable[[tuple[str, ...]], tuple[str, ...]] = only_none
    default_variants: tuple[str, ...] = ("none",)
    groups: tuple[str, ...] = ()
    has_world_model: bool = False
    has_return_token: bool = False
    sees_cost_limit: bool = False
    by_threshold: bool = False
    is_extensible: bool = True
    make_explorer: Callable[[ExperimentConfig, DataSpec], Callable] | None = None
    make_risk: Callable[[ExperimentConfig, DataSpec], RiskModel] | None = None

    def __post_init__(self) -> None:
        # What was written elsewhere says so where it returns another shape.
        for name, wrap in (
            ("make_learner", checked.learners_of),
            ("make_policy", checked.policies_of),
        ):
            object.__setattr__(self, name, wrap(getattr(self, name)))
