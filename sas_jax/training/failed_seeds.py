"""Which lanes still learn: training seeds x thresholds; failures and early stopping.

Lanes share a program but not a fate. Every decision is a lane's own, so that its result
does not depend on the lanes that run beside it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.errors import UserError, nearest
from sas_jax.experiment import TrainConfig
from sas_jax.types import TrainState


class Tracker:
    """Failures, and the best validation value, of every lane.

    failed: index of the lane -> the step whose loss or gradient was not finite.
    best, best_step, stale: `[U]` the least value of train.stop_on so far (negated where
      a leading - asks for the largest), its step, and validations since.
    """

    def __init__(self, config: TrainConfig, saved: dict[str, Any] | None = None):
        """saved: what `to_json` gave when a checkpoint was written."""
        self._config, count = config, len(config.lanes)
        saved = saved or {}
        self.failed = {int(k): v for k, v in saved.get("failed", {}).items()}
        self.best = np.asarray(saved.get("best", [np.inf] * count), np.float64)
        self.best_step = np.asarray(saved.get("best_step", [0] * count), np.int64)
        self.stale = np.asarray(saved.get("stale", [0] * count), np.int64)

    def to_json(self) -> dict[str, Any]:
        """Plain values; floats survive exactly."""
        out: dict[str, Any] = {"failed": {str(k): v for k, v in self.failed.items()}}
        if self._config.stop_on:
            out |= {
                "best": self.best.tolist(),
                "best_step": self.best_step.tolist(),
                "stale": self.stale.tolist(),
            }
        return out

    def note_steps(self, steps: np.ndarray, expected: int) -> list[int]:
        """Notes lanes that stand at an earlier step than `expected`; the new ones.

        steps: `[U]` of the states. A lane's state stays at the last good step, which is
        also the number of the step that failed, counted from 0.
        """
        behind = [int(i) for i in np.flatnonzero(steps < expected)]
        new = [i for i in behind if i not in self.failed]
        self.failed |= {i: int(steps[i]) for i in new}
        return new

    def learning(self) -> np.ndarray:
        """`[U]` bool: neither failed nor out of patience."""
        out = np.ones(len(self._config.lanes), bool)
        out[list(self.failed)] = False
        if self._config.stop_on:
            out &= self.stale < self._config.stop_patience
        return out

    def first_good(self) -> int:
        """Index of the first lane that has not failed; 0 when there is none."""
        good = (i for i in range(len(self._config.lanes)) if i not in self.failed)
        return next(good, 0)

    def note_validation(self, metrics: dict[str, np.ndarray], step: int) -> np.ndarray:
        """Notes a validation, values `[U]`; returns `[U]` bool, lanes at a new best."""
        name = self._config.stop_on
        value = np.asarray(metrics[plain_name(name)], np.float64)
        value = -value if name.startswith("-") else value
        learning = self.learning()
        improved = learning & (value < self.best)
        self.best = np.where(improved, value, self.best)
        self.best_step = np.where(improved, step, self.best_step)
        self.stale = np.where(improved, 0, self.stale + learning)
        return improved


def plain_name(stop_on: str) -> str:
    """The validation metric that train.stop_on names, without sign and "val_"."""
    return stop_on.removeprefix("-").removeprefix("val_")


def check_name(config: TrainConfig, known: list[str]) -> None:
    """Raises UserError where train.stop_on is no validation metric."""
    if config.stop_on and plain_name(config.stop_on) not in known:
        known = [f"val_{name}" for name in known]
        name = config.stop_on.removeprefix("-")
        raise UserError(
            f"train.stop_on: unknown metric {name!r}{nearest(name, known)} (known: "
            f"{', '.join(known)})"
        )


@jax.jit
def keep_best(improved: jax.Array, states: TrainState, best: TrainState) -> TrainState:
    """`states` of the lanes that improved (`[U]` bool), `best` of the others."""

    def pick(new, old):
        return jnp.where(improved.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    return jax.tree.map(pick, states, best)
