"""Gradient accumulation: a batch worked off in parts, with the whole batch's loss.

The loss is no mean of its parts' losses: free bits, the decoders' running variances and
the count of valid steps are of the whole batch. So it is the networks that run part by
part. Each part's forward pass keeps its outputs only and is made again when the
gradient is taken, whose sum the backward loop carries (gradient caching, Gao et al.
2021). Memory is one part's; the forward pass is paid twice, a third more arithmetic.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from sas_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class InParts:
    """A model whose `outputs` runs in `count` parts; otherwise the model itself."""

    model: Any
    count: int

    def __getattr__(self, name):
        return getattr(self.model, name)

    def apply(self, variables, *arguments, rngs=None, method):
        """The model's `outputs`; every part draws dropout of its own.

        arguments: batch, noise, train; leaves `[B, ...]`, B a multiple of `count`.
        Returns leaves `[B, ...]`. Other methods keep few activations or none, and run
        whole.
        """
        if method != "outputs":
            return self.model.apply(variables, *arguments, rngs=rngs, method=method)
        batch, noise, train = arguments

        # The scan keeps parts apart already; a barrier would only cost time.
        @functools.partial(jax.checkpoint, prevent_cse=False)
        def part(variables, rngs, piece):
            index, batch, noise = piece
            own = jax.tree.map(lambda key: jax.random.fold_in(key, index), rngs)
            return self.model.apply(
                variables, batch, noise, train, rngs=own, method=method
            )

        pieces = jax.tree.map(self._deal, (batch, noise))
        pieces = (jnp.arange(self.count), *pieces)
        outputs = jax.lax.map(lambda piece: part(variables, rngs, piece), pieces)
        return jax.tree.map(self._collect, outputs)

    def _deal(self, x):
        """`[B, ...]` -> `[count, B / count, ...]`, rows dealt out in turn.

        In turn, so that rows that lie on one device stay there.
        """
        if x.shape[0] % self.count:
            raise UserError(
                f"train.batch_rows {x.shape[0]}: expected a multiple of "
                f"train.accumulate {self.count}"
            )
        return jnp.swapaxes(x.reshape(-1, self.count, *x.shape[1:]), 0, 1)

    def _collect(self, x):
        """Inverse of `_deal`."""
        return jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])


def in_parts(model: Any, count: int) -> Any:
    """`model` itself for one part, else the model in `count` parts."""
    return InParts(model, count) if count > 1 else model
