"""State-wise constraints: a price of cost for every state, and how it is found.

The constraint is V_c(s) <= d in every state. Q_c is the discounted probability of a
cost, or the discounted share of steps that cost, so that d is one, too, and all of them
lie in [0, 1]:

    hit:    Q_c(s, a) = E [ c + (1 - c) gamma_c Q_c(s', a') ],   c in {0, 1}
    share:  Q_c(s, a) = E [ (1 - gamma_c) c + gamma_c Q_c(s', a') ]

With a price lambda(s) and a penalty mu the actor pays, for x = Q_c(s, a) - d,

    (1 / 2 mu) ( [lambda(s) + mu x]_+^2 - lambda(s)^2 )      mu = 0: lambda(s) x

whose slope is [lambda(s) + mu x]_+, the effective price. Dual ascent moves lambda along
E lambda(s) (V_c(s) - d). The alternative is a regression: a network is fitted to
y(s) = [lambda'(s) + mu (V_c(s) - d)]_+ of a frozen lambda', and lambda' follows it.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from sas_jax.models.networks import MLP

# softplus(-3) = .05: prices begin near nothing, but not where softplus is flat (FAC).
_BIAS = -3.0


class MultiplierNetwork(nn.Module):
    """Observation `[..., O]` -> lambda `[...]`, never below 0."""

    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        """See the class."""
        raw = MLP(self.hidden, 1)(obs)[..., 0]
        return nn.softplus(raw + _BIAS)


def hitting_target(
    cost: jax.Array, discount: float, goes_on: jax.Array, after: jax.Array
) -> jax.Array:
    """Targets `[B]` of Q_c as a probability, see the module.

    cost: `[B]`, any amount above 0 counts as one. goes_on: `[B]`, 0 after an episode's
    own end. after: `[B]` of the next state; what lies outside [0, 1] is cut.
    """
    hit = (cost > 0).astype(jnp.float32)
    after = jnp.clip(after, 0.0, 1.0)
    return hit + (1.0 - hit) * discount * goes_on * after


def share_target(
    cost: jax.Array, discount: float, goes_on: jax.Array, after: jax.Array
) -> jax.Array:
    """Targets `[B]` of Q_c as a share of steps, see the module and `hitting_target`."""
    costs = (cost > 0).astype(jnp.float32)
    after = jnp.clip(after, 0.0, 1.0)
    return (1.0 - discount) * costs + discount * goes_on * after


def effective(multiplier: jax.Array, excess: jax.Array, penalty: float) -> jax.Array:
    """[lambda + mu x]_+, elementwise: what the actor's slope is multiplied by."""
    return jax.nn.relu(multiplier + penalty * excess)


def augmented(multiplier: jax.Array, excess: jax.Array, penalty: float) -> jax.Array:
    """What the actor pays, elementwise; see the module."""
    if penalty == 0.0:
        return multiplier * excess
    paid = effective(multiplier, excess, penalty)
    return (jnp.square(paid) - jnp.square(multiplier)) / (2.0 * penalty)


def ascent_loss(multiplier: jax.Array, excess: jax.Array, most: float) -> jax.Array:
    """A loss whose descent is dual ascent: -E lambda(s) x, x a constant.

    A price of `most` and above is not driven further up.
    """
    is_full = (multiplier >= most) & (excess > 0)
    return -jnp.mean(multiplier * jax.lax.stop_gradient(jnp.where(is_full, 0, excess)))


def regression_loss(
    multiplier: jax.Array,
    frozen: jax.Array,
    excess: jax.Array,
    penalty: float,
    most: float,
) -> jax.Array:
    """E (lambda(s) - y(s))^2 with y = min([lambda'(s) + mu x]_+, most), a constant."""
    target = jnp.minimum(effective(frozen, excess, penalty), most)
    return jnp.mean(jnp.square(multiplier - jax.lax.stop_gradient(target)))
