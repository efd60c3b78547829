"""Options behind the name of a task: ``gymnasium:Hopper-v5,cost=terminated,steps=200``.

Each stands after a comma as KEY=VALUE; thresholds have slashes between them.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sas_jax.errors import UserError, nearest

# Of a task whose thresholds nobody has named.
LIMITS = (10.0, 20.0, 40.0)


class Numbers(NamedTuple):
    """limits: thresholds of the episode cost. steps: the time limit, None leaves it to
    the environment. max_cost: largest cost of a step.
    """

    limits: tuple[float, ...]
    steps: int | None
    max_cost: float


def split(name: str, known: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """What stands before the first comma, and the options behind it, still as text.

    Raises:
      UserError: an option that is not among `known`, twice the same, or no value.
    """
    known = tuple(known)
    env, *parts = name.split(",")
    options: dict[str, Any] = {}
    for part in parts:
        key, _, value = part.partition("=")
        if key not in known or not value or key in options:
            raise UserError(
                f"task {name!r}: option {part!r}; expected each of {', '.join(known)} "
                f"at most once, as KEY=VALUE{nearest(key, known)}"
            )
        options[key] = value
    if "limits" in options:
        options["limits"] = options["limits"].split("/")
    return env, options


def numbers(
    owner: str,
    options: Mapping[str, Any],
    *,
    limits: tuple[float, ...] = LIMITS,
) -> Numbers:
    """The options `limits`, `steps` and `max_cost`; limits: where none are given.

    Raises:
      UserError: no numbers, or such as make no sense. owner: whose they are.
    """
    try:
        found = tuple(float(limit) for limit in options.get("limits") or limits)
        steps = options.get("steps")
        steps = None if steps is None else int(steps)
        largest = float(options.get("max_cost", 1.0))
    except (TypeError, ValueError) as error:
        raise UserError(f"{owner}: {error}; expected numbers") from error
    if not (steps is None or steps >= 1):
        raise UserError(f"{owner}: steps {steps}; expected at least 1")
    if not all(0 <= limit < float("inf") for limit in found):
        raise UserError(f"{owner}: limits {found}; expected numbers >= 0")
    if not 0 < largest < float("inf"):
        raise UserError(f"{owner}: max_cost {largest}; expected a number > 0")
    return Numbers(found, steps, largest)
