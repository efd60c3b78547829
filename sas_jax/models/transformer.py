"""The decoder: causal attention within a sliding window of time steps, plus a prefix.

A time step is a group of `tokens_per_step` tokens. A token sees the tokens of its own
step up to itself, those of the `K - 1` steps before, and the whole prefix (the prompt).
The same weights serve three calls, and tests hold them equal:

* `forward`: a row of steps at once (training). Work and memory grow with the row's
  length times K, not with its square.
* `encode_prefix`: keys and values of a prompt, computed once and never written to.
* `extend`: a few new tokens given what is remembered (imagination and acting).

Because training uses the window mask on rows longer than K, a ring of the last K - 1
steps holds exactly the keys and values that `forward` would attend to: the cached step
is not an approximation, at any time step.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from sas_jax.config import Choice, Number, check
from sas_jax.errors import UserError

# Finite, so that a row in which every slot is masked stays free of NaN.
_MASKED = -1e30


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Sizes of the decoder; defaults are the paper's DT (Table 5)."""

    width: int = 128
    depth: int = 3
    num_heads: int = 1
    context: int = 20  # K, in time steps
    dropout: float = 0.1
    dtype: str = "float32"  # activations; parameters and softmax stay float32

    def __post_init__(self):
        count = Number(least=1, whole=True)
        rules = {
            "width": count,
            "depth": count,
            "num_heads": count,
            "context": Number(least=2, whole=True),
            "dropout": Number(least=0, below=1),
            "dtype": Choice(("float32", "bfloat16")),
        }
        check(self, "model.decoder", rules)
        if self.width % self.num_heads:
            raise UserError(
                f"model.decoder.width {self.width} must be a multiple of num_heads "
                f"{self.num_heads}"
            )

    @property
    def head_dim(self) -> int:
        return self.width // self.num_heads


@struct.dataclass
class Memory:
    """Keys and values of remembered tokens, one entry per layer.

    keys, values: tuples of `[P, H, slots, h]`, or `[H, slots, h]` when all trajectories
    share them. A step's slots lie together: writing one touches few cache lines.
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]

    @property
    def num_slots(self) -> int:
        return self.keys[0].shape[-2]


def empty_memory(
    config: DecoderConfig, num_slots: int, batch: tuple[int, ...] = ()
) -> Memory:
    """Zeroed keys and values with `num_slots` slots and leading axes `batch`."""
    dtype = jnp.dtype(config.dtype)
    heads, size = config.num_heads, config.head_dim
    zeros = (jnp.zeros((*batch, heads, num_slots, size), dtype),) * config.depth
    return Memory(zeros, zeros)


def concatenate(first: Memory, second: Memory) -> Memory:
    """Returns both memories' slots, `first`'s before `second`'s."""
    return jax.tree.map(lambda *pair: jnp.concatenate(pair, axis=-2), first, second)


def write(ring: Memory, new: Memory, slot: jax.Array) -> Memory:
    """Overwrites the slots from `slot` (scalar, the same for every trajectory)."""

    def put(old, fresh):
        return jax.lax.dynamic_update_slice_in_dim(old, fresh, slot, axis=-2)

    return jax.tree.map(put, ring, new)


def window_mask(
    num_blocks_steps: int, tokens_per_step: int, window: int | None = None
) -> np.ndarray:
    """`[Q, 2Q]` bool: what a block of K steps sees of the block before and itself.

    Q = K * tokens_per_step. Token q of the block may look at its own step up to itself
    and at the `window` - 1 steps before that (None: K - 1).
    """
    window = num_blocks_steps if window is None else window
    size = num_blocks_steps * tokens_per_step
    query = np.arange(size)[:, None] + size
    key = np.arange(2 * size)[None, :]
    age = query // tokens_per_step - key // tokens_per_step
    return (key <= query) & (age < window)


def _attend(scores: jax.Array, visible: jax.Array) -> jax.Array:
    """Softmax in float32 over the last axis of `scores` where `visible`."""
    scores = jnp.where(visible, scores.astype(jnp.float32), _MASKED)
    return jax.nn.softmax(scores, axis=-1)


class Dropout(nn.Module):
    """Dropout that draws one random byte per value.

    On a CPU the generator is what dropout costs; flax's draws four bytes per value. The
    rate is rounded to a multiple of 1/256, and the scale is that of the rounded rate.
    """

    rate: float

    @nn.compact
    def __call__(self, x, *, deterministic):
        """Zeroes values of x, of any shape, with probability `rate`."""
        threshold = round(self.rate * 256)
        if deterministic or threshold == 0:
            return x
        words = jax.random.bits(self.make_rng("dropout"), ((x.size + 3) // 4,))
        octets = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)
        keep = octets[: x.size].reshape(x.shape) >= threshold
        return jnp.where(keep, x * (256.0 / (256 - threshold)), 0.0).astype(x.dtype)


class Block(nn.Module):
    """Pre-norm attention and a ReLU feed-forward layer (Table 5)."""

    config: DecoderConfig

    def setup(self):
        dtype = jnp.dtype(self.config.dtype)
        dense = functools.partial(
            nn.Dense, dtype=dtype, kernel_init=nn.initializers.normal(0.02)
        )
        self.norm_attention = nn.LayerNorm(dtype=dtype)
        self.query = dense(self.config.width)
        self.key_value = dense(2 * self.config.width)
        self.project = dense(self.config.width)
        self.norm_feed_forward = nn.LayerNorm(dtype=dtype)
        self.expand = dense(4 * self.config.width)
        self.contract = dense(self.config.width)
        self.drop = Dropout(self.config.dropout)

    def _finish(self, x, attended, deterministic):
        """Residual connections around attention and feed-forward layer."""
        x = x + self.drop(self.project(attended), deterministic=deterministic)
        hidden = nn.relu(self.expand(self.norm_feed_forward(x)))
        return x + self.drop(self.contract(hidden), deterministic=deterministic)

    def forward(self, x, is_valid, tokens_per_step, num_out, prefix, deterministic):
        """Whole rows; see `Decoder.forward`.

        x is `[B * n, D]`, flat because plain matrix products are the fastest, with n a
        multiple of K * tokens_per_step; is_valid `[B, n]`. Only the last num_out tokens
        of every step are computed.
        """
        batch, length = is_valid.shape
        width = x.shape[-1]
        heads, size = self.config.num_heads, self.config.head_dim
        block = self.config.context * tokens_per_step
        blocks, rows = length // block, batch * heads
        normed = self.norm_attention(x)
        mask = window_mask(self.config.context, tokens_per_step)
        if num_out < tokens_per_step:
            wanted = np.arange(block) % tokens_per_step >= tokens_per_step - num_out
            mask = mask[wanted]

            def keep(y):
                y = y.reshape(-1, tokens_per_step, width)
                return y[:, tokens_per_step - num_out :].reshape(-1, width)

            x, queries = keep(x), self.query(keep(normed))
        else:
            queries = self.query(normed)

        def by_head(y):
            """`[B * m, D]` -> `[B * H, m, h]`."""
            y = jnp.moveaxis(y.reshape(batch, -1, heads, size), 1, 2)
            return y.reshape(rows, -1, size)

        def windows(y):
            """Blocks with the one before: `[R, n, ...]` -> `[R, n/Q, 2Q, ...]`."""
            y = y.reshape(y.shape[0], blocks, block, *y.shape[2:])
            before = jnp.pad(y, [(0, 0), (1, 0)] + [(0, 0)] * (y.ndim - 2))[:, :-1]
            return jnp.concatenate([before, y], axis=2)

        count = mask.shape[0]
        key, value = jnp.split(self.key_value(normed), 2, axis=-1)
        q = by_head(queries).reshape(rows * blocks, count, size) * size**-0.5
        key = windows(by_head(key)).reshape(rows * blocks, 2 * block, size)
        value = windows(by_head(value)).reshape(rows * blocks, 2 * block, size)
        visible = mask[None, None] & windows(is_valid)[:, :, None]
        if prefix is not None and prefix[3] < self.config.context:
            # Rows with a prompt give up the steps that it takes the place of.
            near = window_mask(self.config.context, tokens_per_step, prefix[3])
            near = near[wanted] if num_out < tokens_per_step else near
            is_prompted = prefix[2].any(axis=1)[:, None, None, None]
            visible = visible & (near[None, None] | ~is_prompted)
        visible = jnp.broadcast_to(visible[:, None], (batch, heads, *visible.shape[1:]))
        visible = visible.reshape(rows * blocks, count, 2 * block)
        scores = jnp.einsum("rqd,rkd->rqk", q, key)
        if prefix is None:
            weights = _attend(scores, visible).astype(x.dtype)
            attended = jnp.einsum("rqk,rkd->rqd", weights, value)
        else:
            prefix_key, prefix_value, seen, _ = prefix

            def spread(y):
                """`[B, H, ...]` -> one copy a block: `[B * H * n/Q, ...]`."""
                y = jnp.broadcast_to(
                    y[:, :, None], (*y.shape[:2], blocks, *y.shape[2:])
                )
                return y.reshape(rows * blocks, *y.shape[3:])

            extra = jnp.einsum("rqd,rsd->rqs", q, spread(prefix_key))
            seen = jnp.broadcast_to(seen[:, None], (batch, heads, seen.shape[1]))
            seen = jnp.broadcast_to(spread(seen)[:, None], extra.shape)
            weights = _attend(
                jnp.concatenate([extra, scores], axis=-1),
                jnp.concatenate([seen, visible], axis=-1),
            ).astype(x.dtype)
            slots = extra.shape[-1]
            attended = jnp.einsum(
                "rqs,rsd->rqd", weights[..., :slots], spread(prefix_value)
            ) + jnp.einsum("rqk,rkd->rqd", weights[..., slots:], value)
        attended = attended.reshape(batch, heads, -1, size)
        attended = jnp.moveaxis(attended, 1, 2).reshape(-1, width)
        return self._finish(x, attended, deterministic)

    def extend(self, x, memories, num_out):
        """New tokens x `[P, n, D]` -> (`[P, num_out, D]`, key, value)."""
        batch, length, width = x.shape
        heads, size = self.config.num_heads, self.config.head_dim
        normed = self.norm_attention(x)
        kept = slice(length - num_out, None)
        q = self.query(normed[:, kept]).reshape(batch, num_out, heads, size)
        q = jnp.moveaxis(q, 1, 2) * size**-0.5  # [P, H, num_out, h]
        both = self.key_value(normed).reshape(batch, length, 2, heads, size)
        key, value = (jnp.moveaxis(both[:, :, i], 1, 2) for i in (0, 1))  # [P, H, n, h]
        causal = np.tril(np.ones((length, length), bool))[kept]
        parts = [*memories, (key, value, causal[None])]
        scores, visible = [], []
        for part_key, _, seen in parts:
            shared = part_key.ndim == 3
            # Where a trajectory has keys of its own they come first in the product, the
            # few queries second: the other order takes a CPU three times as long.
            if shared:
                scores.append(jnp.einsum("phnd,hsd->phns", q, part_key))
            else:
                product = jnp.einsum("phsd,phnd->phsn", part_key, q)
                scores.append(jnp.swapaxes(product, 2, 3))
            visible.append(
                jnp.broadcast_to(
                    (seen if seen.ndim == 3 else seen[:, None, :])[:, None],
                    scores[-1].shape,
                )
            )
        weights = _attend(jnp.concatenate(scores, -1), jnp.concatenate(visible, -1))
        weights = weights.astype(x.dtype)
        attended, start = 0.0, 0
        for _, part_value, _ in parts:
            stop = start + part_value.shape[-2]
            shared = part_value.ndim == 3
            # Weights first in the result: the other order would multiply by the
            # transposed values, five times slower on a CPU.
            attended = attended + jnp.einsum(
                "phns,hsd->phnd" if shared else "phns,phsd->phnd",
                weights[..., start:stop],
                part_value,
            )
            start = stop
        attended = jnp.moveaxis(attended, 1, 2).reshape(batch, num_out, width)
        return self._finish(x[:, kept], attended, True), key, value


class Decoder(nn.Module):
    """A stack of blocks and a final LayerNorm. Tokens come in embedded."""

    config: DecoderConfig

    def setup(self):
        self.blocks = [Block(self.config) for _ in range(self.config.depth)]
        self.norm = nn.LayerNorm(dtype=jnp.dtype(self.config.dtype))

    def forward(
        self,
        x: jax.Array,
        is_valid: jax.Array,
        *,
        tokens_per_step: int,
        num_out: int,
        prefix: Memory | None = None,
        prefix_visible: jax.Array | None = None,
        prefix_window: int | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        """Hidden states of rows of steps under the window mask.

        Args:
          x: `[B, W * tokens_per_step, D]` embedded tokens.
          is_valid: `[B, W]` bool; padding steps are seen by nobody.
          tokens_per_step: static number of tokens of a step.
          num_out: only the last `num_out` tokens' hidden states of every step are
            wanted; the last layer leaves out the others.
          prefix: a prompt's memory with batch axis `B`, always in sight.
          prefix_visible: `[B, slots]` bool, the prefix slots that exist for each row.
          prefix_window: steps in sight, the present one included, in rows that have a
            prefix slot; None means K, as in the others.
          deterministic: no dropout.

        Returns:
          `[B, W * num_out, D]`.
        """
        batch, length, width = x.shape
        block = self.config.context * tokens_per_step
        padding = -length % block
        x = jnp.pad(x, ((0, 0), (0, padding), (0, 0))).reshape(-1, width)
        token_valid = jnp.repeat(is_valid, tokens_per_step, axis=1)
        token_valid = jnp.pad(token_valid, ((0, 0), (0, padding)))
        for index, layer in enumerate(self.blocks):
            memory = None
            if prefix is not None:
                memory = (
                    prefix.keys[index],
                    prefix.values[index],
                    prefix_visible,
                    prefix_window or self.config.context,
                )
            is_last = index == self.config.depth - 1
            x = layer.forward(
                x,
                token_valid,
                tokens_per_step,
                num_out if is_last else tokens_per_step,
                memory,
                deterministic,
            )
        x = x.reshape(batch, -1, width)[:, : length // tokens_per_step * num_out]
        return self.norm(x)

    def extend(
        self,
        x: jax.Array,
        memories: tuple[tuple[Memory, jax.Array], ...],
        *,
        num_out: int,
    ) -> tuple[jax.Array, Memory]:
        """Hidden states of new tokens, given remembered ones. No dropout.

        Args:
          x: `[P, n, D]` embedded new tokens; each sees those before it.
          memories: pairs of a memory and `[P, slots]` bool, its slots in sight.
          num_out: only the last `num_out` tokens' hidden states are wanted; the last
            layer then leaves out the others' queries and feed-forward (they are still
            remembered).

        Returns:
          `[P, num_out, D]` hidden states and the new tokens' memory of n slots.
        """
        keys, values = [], []
        for index, layer in enumerate(self.blocks):
            is_last = index == self.config.depth - 1
            parts = [
                (memory.keys[index], memory.values[index], visible)
                for memory, visible in memories
            ]
            x, key, value = layer.extend(x, parts, num_out if is_last else x.shape[1])
            keys.append(key)
            values.append(value)
        return self.norm(x), Memory(tuple(keys), tuple(values))

    def encode_prefix(self, x: jax.Array) -> Memory:
        """The memory of prompt tokens `[P, n, D]`, which see only one another."""
        _, memory = self.extend(x, (), num_out=1)
        return memory
