"""How often each episode is drawn in training: settings and weights (numpy, host).

CDT's reference code weighs episodes by a falling function of their cost, so that safe
behaviour is seen more often than the data holds it.
"""

import dataclasses
import math

import numpy as np

from sas_jax.data.augment import AugmentConfig, best_per_bin
from sas_jax.errors import UserError, nearest

COST_SAMPLING = ("none", "linear", "inverse", "bins")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Scales of the tokens, and which rows are drawn; by default all steps alike.

    return_scale, cost_scale: divide return and cost tokens; None means the data's
      largest |return| and cost. (CDT's reference multiplies by 0.1 and 1.)
    cost_sampling: weight of a step by its episode's cost C. "none": 1. "linear":
      max(cost_zero - C, 0), CDT's default with cost_zero = 70. "inverse": 1 / (C + 10),
      its other choice. "bins": one over the steps in the same of `cost_bins` equal
      bins of cost, so that rare costs count as much as common ones.
    augment: relabelled episodes, and whether only the best of each bin are used.
    """

    return_scale: float | None = None
    cost_scale: float | None = None
    cost_sampling: str = "none"
    cost_zero: float = 70.0
    cost_bins: int = 10
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)

    def __post_init__(self):
        for name in ("return_scale", "cost_scale", "cost_zero"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UserError(f"data.{name} must be > 0, got {value}")
        if self.cost_sampling not in COST_SAMPLING:
            raise UserError(
                f"data.cost_sampling: unknown {self.cost_sampling!r}"
                f"{nearest(self.cost_sampling, COST_SAMPLING)} "
                f"(known: {', '.join(COST_SAMPLING)})"
            )
        if self.cost_bins < 1:
            raise UserError(f"data.cost_bins must be >= 1, got {self.cost_bins}")


def cost_weights(
    costs: np.ndarray, lengths: np.ndarray, config: DataConfig
) -> np.ndarray:
    """Weight `[E]` of a step of each episode; see `DataConfig.cost_sampling`.

    Args:
      costs: `[E]` episode costs. lengths: `[E]` steps.

    Raises:
      UserError: every weight is zero.
    """
    if config.cost_sampling == "linear":
        weights = np.maximum(config.cost_zero - costs, 0.0)
        if not weights.any():
            raise UserError(
                f"data.cost_zero {config.cost_zero:g}: every episode costs at least "
                f"{costs.min():g}; expected a number above"
            )
        return weights
    if config.cost_sampling == "inverse":
        return 1.0 / (costs + 10.0)
    if config.cost_sampling == "bins":
        bins = bins_of(costs, config.cost_bins)
        return 1.0 / np.bincount(bins, weights=lengths)[bins]
    return np.ones(len(costs))


def bins_of(costs: np.ndarray, count: int) -> np.ndarray:
    """Number `[E]` of each cost's bin, `count` equal bins from smallest to largest."""
    low, span = costs.min(), np.ptp(costs)
    if span == 0:
        return np.zeros(len(costs), np.int64)
    return np.minimum((costs - low) / span * count, count - 1).astype(np.int64)


def episode_shares(
    returns: np.ndarray, costs: np.ndarray, lengths: np.ndarray, config: DataConfig
) -> np.ndarray | None:
    """Cumulative probability `[E]` (float32, last 1) of drawing each episode, or None.

    An episode is drawn in proportion to its steps' weight times their number, so that
    equal weights draw all steps alike; None says that they are equal.

    Raises:
      UserError: no episode is left to draw.
    """
    if config.cost_sampling == "none" and not config.augment.pf_only:
        return None
    weights = cost_weights(costs, lengths, config) * lengths
    if config.augment.pf_only:
        kept = best_per_bin(returns, costs, config.augment)
        weights = np.where(kept, weights, 0.0)
        if not weights.any():
            raise UserError(
                "data.augment.pf_only: the episodes it keeps have no weight under "
                f"data.cost_sampling {config.cost_sampling!r}; expected some"
            )
    return cumulative(weights)


def cumulative(weights: np.ndarray) -> np.ndarray:
    """Cumulative shares `[n]` float32 of `weights`; the last ones are exactly 1."""
    total = np.cumsum(weights, dtype=np.float64)
    return (total / total[-1]).astype(np.float32)
