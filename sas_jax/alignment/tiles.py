"""Rows worked off in tiles of one size, on one device or dealt over several.

Matrix products of different row counts round differently. Here every product has the
rows of one tile, whatever the number of rows and of devices.

What is left to XLA is fusion. Its passes for several devices first merge what a program
computes twice, those for a single one do so later; a function that says nothing twice
gave equal bits on one device and on several, one that did differed in the last ones.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from sas_jax.errors import UserError

_AXIS = "tiles"


class Tiling(NamedTuple):
    """How rows are worked off; see `make_tiling`.

    size: rows side by side. mesh: the devices, None for the one at hand.
    """

    size: int
    mesh: Mesh | None = None

    @property
    def num_devices(self) -> int:
        """How many devices the tiles are dealt over."""
        return 1 if self.mesh is None else self.mesh.size


def make_tiling(size: int, devices: int = 1) -> Tiling:
    """Tiles of `size` rows over that many devices (0: all).

    Results depend on the size, not on the devices. Large tiles keep an accelerator
    busy; a processor core is busy with some tens of rows.

    Raises:
      UserError: no rows in a tile, or more devices than there are.
    """
    if size < 1:
        raise UserError(f"tile: expected at least 1 row, got {size}")
    known = jax.devices()
    if not 0 <= devices <= len(known):
        raise UserError(
            f"devices: {devices}; expected 0 (all) to {len(known)}, as there are"
        )
    count = devices or len(known)
    mesh = None if count == 1 else Mesh(np.array(known[:count]), (_AXIS,))
    return Tiling(size, mesh)


def map_tiles(
    function: Callable[[Any, Any], Any], rows: Any, shared: Any, tiling: Tiling
) -> Any:
    """`function(row, shared)` of every row: `[R, ...]` leaves -> `[R, ...]` leaves.

    Rows are dealt out in runs of whole tiles, the last one filled up with copies of the
    last row. Tiles that would hold nothing else are left out.

    Args:
      function: pure, of one row; vmapped over a tile.
      rows: pytree, leading axis R. shared: pytree, whole on every device.
      tiling: static.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    size, mesh, devices = *tiling, tiling.num_devices
    turns = -(-count // (devices * size))
    fill = np.minimum(np.arange(devices * turns * size), count - 1)
    if len(fill) > count:
        rows = jax.tree.map(lambda x: x[fill], rows)
    # How many tiles a device has is data, though it is known: XLA would inline a loop
    # of one turn and fuse it with what is around it, to other bits.
    filled = np.clip(count - np.arange(devices) * turns * size, 0, turns * size)
    turns_of = jax.lax.optimization_barrier(jnp.asarray(-(-filled // size), jnp.int32))

    def work(turns_of, rows, shared):
        def tile_of(i):
            return jax.tree.map(
                lambda x: jax.lax.dynamic_slice_in_dim(x, i * size, size), rows
            )

        def tile(i, done):
            found = jax.vmap(function, (0, None))(tile_of(i), shared)
            return jax.tree.map(
                lambda x, new: jax.lax.dynamic_update_slice_in_dim(
                    x, new, i * size, axis=0
                ),
                done,
                found,
            )

        shapes = jax.eval_shape(
            lambda: jax.vmap(function, (0, None))(tile_of(0), shared)
        )
        done = jax.tree.map(
            lambda x: jnp.zeros((turns * size, *x.shape[1:]), x.dtype), shapes
        )
        return jax.lax.fori_loop(0, turns_of[0], tile, done)

    if mesh is not None:
        dealt, whole = PartitionSpec(_AXIS), PartitionSpec()
        work = jax.shard_map(
            work,
            mesh=mesh,
            in_specs=(dealt, dealt, whole),
            out_specs=dealt,
            check_vma=False,
        )
    found = work(turns_of, rows, shared)
    return jax.tree.map(lambda x: x[:count], found)


def map_rows(
    function: Callable[[Any, Any], Any],
    rows: Any,
    shared: Any,
    tiling: Tiling | None,
) -> Any:
    """`function(row, shared)` of every row, where rows are few and cheap.

    With a tiling they are worked off one by one: products then have the same shape
    whatever the tile and the number of rows. None means side by side.
    """
    if tiling is None:
        return jax.vmap(function, (0, None))(rows, shared)
    return map_tiles(function, rows, shared, tiling._replace(size=1))
