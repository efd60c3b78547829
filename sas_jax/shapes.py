"""Shapes, checked where arrays enter and right after foreign code returned them.

Shapes are known when a program is traced: a look at them costs nothing later. Whoever
wrote the function reads in one line which one it was, what it returned, and what was
expected.
"""

from typing import Any

import jax
import numpy as np

from sas_jax.errors import UserError


def expect_shape(
    function: str, name: str, value: Any, *shape: int | None, verb: str = "returned"
) -> None:
    """Raises UserError unless a value has the shape that was expected.

    function: what returned it. shape: sizes, None where any size will do. verb: what
    the function did; "was given" for what entered.
    """
    found = np.shape(value)
    fits = len(found) == len(shape) and all(
        wanted in (None, size) for wanted, size in zip(shape, found, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise UserError(
            f"{function} {verb} {name} of shape {found}; expected ({wanted})"
        )


def expect_like(function: str, name: str, found: Any, wanted: Any) -> None:
    """Raises UserError unless two pytrees have the same leaves, of one kind each.

    The kind of a leaf is its shape and its dtype. The first one that differs is named.
    """
    kinds, others = (
        {
            name + jax.tree_util.keystr(path): _kind_of(leaf)
            for path, leaf in jax.tree.leaves_with_path(tree)
        }
        for tree in (found, wanted)
    )
    for leaf in {**others, **kinds}:
        if kinds.get(leaf) != others.get(leaf):
            raise UserError(
                f"{function} returned {leaf} {kinds.get(leaf, 'left out')}; expected "
                f"{others.get(leaf, 'no such leaf')}"
            )
    structures: list[Any] = [jax.tree.structure(tree) for tree in (found, wanted)]
    if structures[0] != structures[1]:
        raise UserError(
            f"{function} returned {name} of another structure; expected the one it got"
        )


def _kind_of(leaf: Any) -> str:
    """Shape and dtype in words; a Python number has the dtype it would get."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else jax.dtypes.result_type(leaf)
    return f"of shape {np.shape(leaf)} and type {dtype}"
