"""Some rows of a batch at a time, in sub-blocks of one size: no shape ever changes.

Which rows are due changes from step to step. They are gathered, worked off, and written
back; rows that fill the last sub-block up are written nowhere. Which rows share a
sub-block changes nothing in the results: the shape is always the same.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# Rows that are worked off side by side, by backend: what fits a core's cache, and as
# many as there are where idle lanes cost nothing.
SUB_BLOCK = {"cpu": 8}
_ON_ACCELERATORS = 1024


def sub_block() -> int:
    """Rows that are worked off side by side where there are as many."""
    return SUB_BLOCK.get(jax.default_backend(), _ON_ACCELERATORS)


def rows_at(tree: Any, index: Any) -> Any:
    """Some rows of a batch; leaves without axes are common to all."""
    return jax.tree.map(lambda x: x[index] if x.ndim else x, tree)


def work_off(
    function: Callable[[jax.Array, jax.Array, Any], tuple[Any, jax.Array]],
    is_due: jax.Array,
    held: Any,
) -> Any:
    """What `held` becomes where rows are due. No row due, no work.

    Args:
      function: (index `[R]`, is_real `[R]`, held) -> new rows `[R, ...]`, and `[R]`
        bool, which of them are kept. Rows that are not real fill a sub-block up.
      is_due: `[B]` bool. held: pytree, leading axis B.
    """
    count = is_due.shape[0]
    size = min(sub_block(), count)
    order = jnp.argsort(~is_due, stable=True)
    order = jnp.concatenate([order, jnp.full(-count % size, count - 1)])
    num_due = is_due.sum()

    def body(i, held):
        index = jax.lax.dynamic_slice_in_dim(order, i * size, size)
        is_real = i * size + jnp.arange(size) < num_due
        new, is_kept = function(index, is_real, held)
        target = jnp.where(is_kept & is_real, index, count)

        def put(old, new):
            return old.at[target].set(new, mode="drop")

        return jax.tree.map(put, held, new)

    if order.shape[0] == size:
        # One sub-block has all rows. Of a loop XLA would see that its index is always
        # the same, and move the work out of it: done at every step, due or not.
        return jax.lax.cond(num_due > 0, lambda x: body(0, x), lambda x: x, held)
    return jax.lax.fori_loop(0, (num_due + size - 1) // size, body, held)
