"""Training inputs with the errors that imagination makes.

A model that has only seen real states does not know what to do about its own mistakes.
Scheduled sampling (Bengio et al. 2015) feeds it its own predictions; this is its
parallel form: all steps are sampled at once from the real history, and the errors of
successive steps add up as they would in imagination.
"""

import jax
import jax.numpy as jnp

from sas_jax.models.vae import decoder_log_std
from sas_jax.types import Key, Params


def own_errors(
    model,
    params: Params,
    batch,
    variances: dict[str, jax.Array],
    noise: dict[str, jax.Array],
    key: Key,
) -> jax.Array:
    """Input errors `[B, W, O]` as the model's own samples make them, on noisy rows.

    A step's error is a sample of the model less the truth, and errors carry over to the
    next step by a share drawn for each row: what imagination does to its states, at the
    price of one forward pass of half the rows.
    """
    config = model.config
    half = jax.tree.map(lambda x: x[1::2], batch.replace(prompt=None, lone=None))
    steps = half.is_valid.shape[1]
    draw_key, carry_key = jax.random.split(key)
    draws = {
        "transition": noise["transition"][::2][: half.is_valid.shape[0]],
        "resample": jax.random.normal(
            draw_key, (half.is_valid.shape[0], steps, model.obs_dim)
        ),
    }
    log_std = decoder_log_std(variances["transition"], floor=config.decoder_floor)
    sampled = model.apply(
        {"params": jax.lax.stop_gradient(params)},
        half,
        draws,
        log_std,
        method="resample",
    )
    error = sampled - half.obs[:, 1:]
    carry = jax.random.uniform(carry_key, (error.shape[0], 1), maxval=config.self_noise)

    def accumulate(total, error):
        total = carry * total + error
        return total, total

    _, total = jax.lax.scan(
        accumulate, jnp.zeros_like(error[:, 0]), jnp.moveaxis(error, 1, 0)
    )
    total = jnp.moveaxis(total, 0, 1)
    drift = jnp.zeros_like(noise["obs"]).at[1::2, 1:].set(total[:, :-1])
    return jax.lax.stop_gradient(drift)
