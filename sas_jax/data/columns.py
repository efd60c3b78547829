"""Mean and deviation of columns, and when a column counts as constant."""

import numpy as np

# A column whose standard deviation is below this share of its magnitude is constant.
_CONSTANT = 1e-6


def moments(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of `[S, C]` by column, both `[C]` float64."""
    mean = array.mean(axis=0, dtype=np.float64)
    around = np.square(array - mean.astype(np.float32))
    return mean, np.sqrt(np.mean(around, 0, dtype=np.float64))


def varies(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Whether a column with these moments varies beyond rounding, `[C]` bool."""
    return std > _CONSTANT * np.maximum(1.0, np.abs(mean))


def constant_columns(array: np.ndarray) -> np.ndarray:
    """Numbers of the columns of `[S, C]` that do not vary."""
    return np.flatnonzero(~varies(*moments(array)))
