"""A look at a user's function: it is traced, never run, and told what it returns."""

from collections.abc import Callable
from typing import Any

import jax

from sas_jax.errors import UserError, one_line
from sas_jax.shapes import expect_shape
from sas_jax.types import Trajectory


def look_at(
    name: str,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    expected: dict[str, tuple],
) -> None:
    """Raises UserError unless a function returns arrays of the expected shapes.

    arguments: the variables first, then arrays or their `ShapeDtypeStruct`s.
    expected: name -> shape of each array that it returns, in order.
    """
    try:
        found = jax.eval_shape(function, *arguments)
    except UserError:
        raise
    except Exception as error:  # whatever the user's function does
        reason = one_line(error)
        given = ", ".join(
            f"history of {x.is_valid.shape[0]} steps"
            if isinstance(x, Trajectory)
            else str(x.shape)
            for x in arguments[1:]
        )
        raise UserError(
            f"{name} raised {type(error).__name__} ({reason}) when it was traced with "
            f"(variables, {given})"
        ) from error
    returned = found if isinstance(found, (tuple, list)) else (found,)
    if len(returned) != len(expected):
        raise UserError(
            f"{name} returned {len(returned)} arrays; expected {len(expected)}: "
            f"{', '.join(expected)}"
        )
    for (what, shape), value in zip(expected.items(), returned, strict=True):
        expect_shape(name, what, value, *shape)
