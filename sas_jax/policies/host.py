"""Policies and models that are no JAX functions: numpy's, torch's, or a server's.

`from_host` makes a function of numpy arrays into one that `from_history_policy` takes.
It is called from within compiled programs, once for all trajectories of a step, so a
network should work off a batch. Each call leaves the device and comes back.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from sas_jax.errors import UserError


def from_host(
    function: Callable[..., Any], *shapes: tuple[int, ...], name: str = ""
) -> Callable[..., Any]:
    """A function of one trajectory out of one of numpy arrays and many trajectories.

    Args:
      function: takes what its place in `from_history_policy` takes, without variables,
        each array with a leading axis of P trajectories: a policy gets (history, mask),
        their fields `[P, n, ...]`. Returns an array, or as many as `shapes` has, each
        `[P, *shape]`. It must depend on its arguments only: it may be called again.
      shapes: of what it returns for one trajectory; ``(A,), (A,)`` for a policy.
      name: for messages; the function's own by default.

    Returns:
      (variables, *arguments) -> what `function` returns for one trajectory. Variables
      are not handed on. Export (`export_policy`) and devices without callbacks refuse
      it.

    Raises:
      UserError: from within, where `function` returns another number of arrays, another
        shape, or what is not finite.
    """
    name = name or getattr(function, "__name__", type(function).__name__)
    wanted = tuple(jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes)

    def call(variables: Any, *arguments: Any) -> Any:
        del variables
        own = np.ndim(jax.tree.leaves(arguments)[0])

        def on_host(*arguments: Any) -> tuple[np.ndarray, ...]:
            # Axes that vmap has put in front, of all arguments alike.
            first = np.shape(jax.tree.leaves(arguments)[0])
            lead = first[: len(first) - own]
            count = math.prod(lead)
            batch = jax.tree.map(
                lambda x: np.asarray(x).reshape(count, *np.shape(x)[len(lead) :]),
                arguments,
            )
            found = function(*batch)
            found = found if isinstance(found, (tuple, list)) else (found,)
            if len(found) != len(shapes):
                raise UserError(
                    f"{name} returned {len(found)} arrays; expected {len(shapes)}"
                )
            return tuple(
                _checked(name, value, (count, *shape)).reshape(*lead, *shape)
                for value, shape in zip(found, shapes, strict=True)
            )

        found = jax.pure_callback(
            on_host, wanted, *arguments, vmap_method="broadcast_all"
        )
        return found if len(shapes) > 1 else found[0]

    return call


def _checked(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """An array as float32, its shape and values checked."""
    array = np.asarray(value, np.float32)
    if array.shape != shape:
        raise UserError(
            f"{name} returned an array of shape {array.shape}; expected {shape}"
        )
    if not np.isfinite(array).all():
        at = tuple(map(int, np.argwhere(~np.isfinite(array))[0]))
        raise UserError(f"{name} returned {array[at]} at {at}; expected finite numbers")
    return array
