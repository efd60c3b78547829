"""Small networks that the models share."""

import flax.linen as nn
import jax.numpy as jnp


class MLP(nn.Module):
    """ReLU layers of the given widths, then a linear layer of `features` outputs.

    The output layer starts small, so that every head begins near zero.
    """

    hidden: tuple[int, ...]
    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        for width in self.hidden:
            x = nn.relu(nn.Dense(width, dtype=self.dtype)(x))
        init = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        return nn.Dense(self.features, kernel_init=init, dtype=jnp.float32)(x)


class NoisyOr(nn.Module):
    """Log-odds of an event that any one input can cause by passing its threshold.

    P(no event) = prod_i (1 - p_i), each p_i a logistic function of one input, from
    above or from below. A cost that is "some lidar bin above a level" has exactly this
    form; an MLP of the same inputs memorises the layouts instead (held-out
    cross-entropy on PointGoal1 after 3000 steps of 640: MLP 0.112, a threshold per
    input 0.025, one per ring 0.016, base rate 0.109).

    rings: (first, size) of groups of inputs that share one threshold.
    """

    # Thresholds are sharp, slopes of 100 and more in standardised units: the gain lets
    # an optimiser that moves one learning rate a step reach them.
    gain: float = 400.0
    rings: tuple[tuple[int, int], ...] = ()

    @nn.compact
    def __call__(self, x):
        """x `[..., n]` -> `[...]`."""
        both = jnp.stack([x, -x], axis=-2).astype(jnp.float32)
        kinds = self._kinds(x.shape[-1])
        shape, gain = (2, max(kinds) + 1), self.gain
        slope = self.param("slope", nn.initializers.constant(2.0 / gain), shape)
        bias = self.param("bias", nn.initializers.constant(-8.0 / gain), shape)
        wide = (*(1,) * (both.ndim - 2), 2, -1)
        slope, bias = (
            jnp.take(p, jnp.asarray(kinds), axis=1).reshape(wide) for p in (slope, bias)
        )
        causes = gain * (both * slope + bias)
        causes = causes.reshape(*x.shape[:-1], -1)
        # total = -log P(no event); the log-odds are log(exp(total) - 1).
        total = jnp.sum(nn.softplus(causes), axis=-1)
        return total + jnp.log(-jnp.expm1(-jnp.maximum(total, 1e-6)))

    def _kinds(self, size: int) -> list[int]:
        """The index of each input's threshold; a ring's inputs have one."""
        first_of = {
            first + i: first for first, length in self.rings for i in range(length)
        }
        firsts = [first_of.get(i, i) for i in range(size)]
        numbers = {first: n for n, first in enumerate(sorted(set(firsts)))}
        return [numbers[first] for first in firsts]
