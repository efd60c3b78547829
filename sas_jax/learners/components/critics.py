"""Critics: several value networks side by side, and what they are regressed on."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from sas_jax.models.networks import MLP

_LEAST_STD = 1e-3


class Ensemble(nn.Module):
    """`members` networks of one shape, each with parameters of its own."""

    hidden: tuple[int, ...]
    members: int = 2

    @nn.compact
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        """inputs: `[..., n]` each, put side by side. Returns `[members, ...]`."""
        many = nn.vmap(
            MLP,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            out_axes=0,
            axis_size=self.members,
        )
        return many(self.hidden, 1)(jnp.concatenate(inputs, axis=-1))[..., 0]


class SpreadCritic(nn.Module):
    """One network that says the mean of a target and its standard deviation."""

    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, *inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """inputs: `[..., n]` each, put side by side. Returns mean and std, `[...]`."""
        found = MLP(self.hidden, 2)(jnp.concatenate(inputs, axis=-1))
        return found[..., 0], nn.softplus(found[..., 1]) + _LEAST_STD


def least_and_most(values: jax.Array, weight: float) -> jax.Array:
    """BCQ's soft minimum of a double Q (Fujimoto et al. 2019, Eq. 10).

    values: `[members, ...]`. Returns `weight * min + (1 - weight) * max`.
    """
    return weight * values.min(axis=0) + (1.0 - weight) * values.max(axis=0)


def td_loss(values: jax.Array, target: jax.Array) -> jax.Array:
    """Sum over members of the mean squared error.

    values: `[members, B]`. target: `[B]`, taken as a constant.
    """
    error = values - jax.lax.stop_gradient(target)[None]
    return jnp.sum(jnp.mean(jnp.square(error), axis=1))


def spread_loss(mean: jax.Array, std: jax.Array, target: jax.Array) -> jax.Array:
    """Mean Gaussian negative log-likelihood, each weighed by its own std, a constant.

    Without the weight a state whose std shrinks takes ever larger steps of its mean
    (beta-NLL with beta = 1/2; Seitzer et al. 2022). mean, std: `[B]`. target: `[B]`,
    taken as a constant. The fit is the same: the target's own mean and std.
    """
    error = (mean - jax.lax.stop_gradient(target)) / std
    loss = 0.5 * jnp.square(error) + jnp.log(std)
    return jnp.mean(jax.lax.stop_gradient(std) * loss)


def at_best(score: jax.Array, *values: jax.Array) -> tuple[jax.Array, ...]:
    """Values `[n, B]` of the candidate with the largest score `[n, B]`: `[B]` each."""
    best = jnp.argmax(score, axis=0)[None]
    return tuple(jnp.take_along_axis(x, best, axis=0)[0] for x in values)


def best_action(score: jax.Array, action: jax.Array) -> jax.Array:
    """`[B, A]` the action of `[n, B, A]` with the largest score `[n, B]`."""
    each = [action[..., i] for i in range(action.shape[-1])]
    return jnp.stack(at_best(score, *each), axis=-1)
