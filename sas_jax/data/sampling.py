"""How often each episode is drawn in training: settings and weights (numpy, host).

CDT's reference code weighs episodes by a falling function of their cost, so that safe
behaviour is seen more often than the data holds it.
"""

import dataclasses

import numpy as np

from sas_jax.config import Choice, Number, check
from sas_jax.data.augment import AugmentConfig
from sas_jax.errors import UserError

COST_SAMPLING = ("none", "linear")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which rows are drawn; by default all steps alike.

    cost_sampling: weight of a step by its episode's cost. "none": 1. "linear":
      max(cost_zero - cost, 0), CDT's default with cost_zero = 70.
    augment: relabelled episodes.
    """

    cost_sampling: str = "none"
    cost_zero: float = 70.0
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)

    def __post_init__(self):
        rules = {
            "cost_sampling": Choice(COST_SAMPLING),
            "cost_zero": Number(above=0),
        }
        check(self, "data", rules)


def cost_weights(costs: np.ndarray, config: DataConfig) -> np.ndarray:
    """Weight `[E]` of a step of each episode; see `DataConfig.cost_sampling`.

    costs: `[E]` episode costs, real ones or those that relabelled copies ask for.
    """
    if config.cost_sampling == "none":
        return np.ones(len(costs))
    return np.maximum(config.cost_zero - costs, 0.0)


def episode_shares(
    costs: np.ndarray, lengths: np.ndarray, config: DataConfig
) -> np.ndarray | None:
    """Cumulative probability `[E]` (float32, last 1) of drawing each episode, or None.

    An episode is drawn in proportion to its steps' weight times their number, so that
    equal weights draw all steps alike; None says that they are equal.

    Args:
      costs: `[E]` episode costs. lengths: `[E]` steps.

    Raises:
      UserError: no episode is left to draw.
    """
    if config.cost_sampling == "none":
        return None
    weights = cost_weights(costs, config)
    if not weights.any():
        raise UserError(
            f"data.cost_zero {config.cost_zero:g}: every episode costs at least "
            f"{costs.min():g}; expected a number above"
        )
    return cumulative(weights * lengths)


def cumulative(weights: np.ndarray) -> np.ndarray:
    """Cumulative shares `[n]` float32 of `weights`; the last ones are exactly 1."""
    total = np.cumsum(weights, dtype=np.float64)
    return (total / total[-1]).astype(np.float32)
