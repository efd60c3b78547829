"""Names that columns of data go by, and the types and shapes they must have.

In the shape descriptions, `N` is the number of rows.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from sas_jax.errors import UserError, nearest

# What a column is -> the names it goes by; "/" stands between nested ones.
NAMES = {
    "observations": ("observations", "observation", "obs", "states", "state"),
    "next_observations": (
        "next_observations",
        "next_observation",
        "next_obs",
        "next_states",
        "next_state",
    ),
    "actions": ("actions", "action", "acts"),
    "rewards": ("rewards", "reward"),
    "costs": ("costs", "cost", "infos/cost", "infos/costs", "info/cost"),
    "terminals": ("terminals", "terminal", "terminations", "terminated"),
    "timeouts": ("timeouts", "timeout", "truncations", "truncated"),
    "dones": ("dones", "done"),
    "lengths": ("lengths", "episode_lengths"),
}
_MATRICES = ("observations", "next_observations", "actions")
_FLAGS = ("terminals", "timeouts", "dones")
_NEEDED = ("observations", "actions", "rewards")


def known_names(names: Iterable[str]) -> list[str]:
    """Those of `names` that are of use here."""
    every = {name for group in NAMES.values() for name in group}
    return [name for name in names if name in every]


def width(arrays: Mapping[str, Any], kind: str, source: str) -> int:
    """Size of the rows of ``"observations"`` or ``"actions"``, whatever their name.

    Raises:
      UserError: they are missing, or no matrix.
    """
    for name in NAMES[kind]:
        if name in arrays:
            return _as_array(arrays[name], kind, f"{source}: {name!r}").shape[1]
    raise missing(kind, arrays, source)


def flat(arrays: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, names joined by "/"."""
    found: dict[str, Any] = {}
    for name, value in arrays.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}/")
        else:
            found[f"{prefix}{name}"] = value
    return found


def columns(arrays: Mapping[str, Any], source: str) -> dict[str, np.ndarray]:
    """What each column is -> its array `[N, ...]`, types and shapes checked.

    Raises:
      UserError: a column that is missing or has a wrong type, shape or length, or two
        of one meaning that differ.
    """
    found: dict[str, np.ndarray] = {}
    for kind, names in NAMES.items():
        present = [name for name in names if name in arrays]
        if not present:
            continue
        value = _as_array(arrays[present[0]], kind, f"{source}: {present[0]!r}")
        for other in present[1:]:
            if not np.array_equal(value, _as_array(arrays[other], kind, source)):
                raise UserError(
                    f"{source}: {present[0]!r} and {other!r} differ; expected one of "
                    "them, or both the same"
                )
        found[kind] = value
    for kind in _NEEDED:
        if kind not in found:
            raise missing(kind, arrays, source)
    rows = len(found["observations"])
    for kind, value in found.items():
        if kind != "lengths" and len(value) != rows:
            raise UserError(
                f"{source}: {kind!r} has {len(value)} rows, expected {rows} as in "
                "'observations'"
            )
    if "next_observations" in found:
        wanted, given = found["observations"].shape, found["next_observations"].shape
        if wanted != given:
            raise UserError(
                f"{source}: 'next_observations' has shape {given}, expected {wanted} "
                "as 'observations'"
            )
    return found


def missing(kind: str, arrays: Iterable[str], source: str) -> UserError:
    """The error for a column that is not there."""
    return UserError(
        f"{source}: key {kind!r} is missing; keys present: "
        f"{', '.join(sorted(arrays)[:12]) or 'none'}{nearest(kind, arrays)}"
    )


def _as_array(value: Any, kind: str, name: str) -> np.ndarray:
    """A column as float32, bool (flags) or int64 (lengths), its rank checked."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise UserError(f"{name}: {error}; expected an array of numbers") from error
    if array.dtype.kind not in "fiub":
        raise UserError(f"{name} has type {array.dtype}; expected numbers")
    rank = 2 if kind in _MATRICES else 1
    if rank == 1 and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != rank or 0 in array.shape[1:]:
        wanted = "[steps, size >= 1]" if rank == 2 else "[steps]"
        raise UserError(f"{name} has shape {array.shape}, expected {wanted}")
    if kind in _FLAGS:
        wrong = np.flatnonzero((array != 0) & (array != 1))
        if len(wrong):
            raise UserError(
                f"{name} is {array[wrong[0]]} in row {wrong[0]}, expected 0 or 1"
            )
        return array != 0
    if kind == "lengths":
        if array.dtype.kind not in "iu" or (array < 1).any():
            raise UserError(f"{name}: expected whole numbers of steps, each >= 1")
        return array.astype(np.int64)
    with np.errstate(over="ignore"):  # told as not finite, with its place
        return array.astype(np.float32)
