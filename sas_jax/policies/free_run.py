"""Training inputs as imagination makes them: the model runs free under real actions.

`own_errors` lets one-step errors add up by a share. Imaginations drift in ways that no
sum of one-step errors shows: lidars fade, say, because objects that hid behind each
other do not come out again. Here the model imagines the row from its first state, by
the very step that imagines, with the row's own actions and tokens; what it gets wrong
is the row's input error, and the target stays the truth (as in DAgger, Ross et al.
2011, and for models Venkatraman et al. 2015).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from sas_jax.data.spec import DataSpec
from sas_jax.gaussian import normal_rows, split_keys
from sas_jax.models.vae import decoder_log_std
from sas_jax.models.world_model import WorldModel
from sas_jax.policies import cached
from sas_jax.types import Batch, Key, Params

# Standardised units. A model at the start of its training runs off the map, and such
# inputs teach nothing.
_FARTHEST = 3.0


def make_free_run(
    model: WorldModel, spec: DataSpec, *, decoder_noise: float
) -> Callable[[Params, Batch, dict, Key], jax.Array]:
    """Builds (params, batch, variances, key) -> input errors `[B, W, O]`.

    Every other row has them (`losses.noisy_rows`), from its second step on; the errors
    have no gradient. Costs one cached step per step of the rows.
    """
    config = model.config
    sequence = cached.make(
        model, spec, prompt_length=1, prompt_place="beside", decoder_noise=decoder_noise
    )
    context = sequence.context

    def imagine(params, batch, variances, key):
        """Imagined states `[R, W - 1, O]` of steps 1 to W - 1, standardised."""
        count, steps = batch.is_valid.shape
        variables = {"params": params, "variances": variances}
        log_std = decoder_log_std(variances["transition"], floor=config.decoder_floor)
        keys = split_keys(key, count)
        raw = batch.obs[:, 0] * spec.obs_std[None] + spec.obs_mean[None]
        zeros = jnp.zeros(count)
        state = sequence.start(variables, keys, raw, zeros, zeros, context)

        def step(state, t):
            # Rows begin anywhere in an episode: the window counts remembered steps,
            # the embedding wants the true time step.
            state = state.replace(
                return_to_go=batch.return_to_go[:, t] * spec.return_scale,
                cost_to_go=batch.cost_to_go[:, t] * spec.cost_scale,
                timestep=batch.timestep[:, t],
                window=jnp.full_like(state.window, jnp.minimum(context, t + 1)),
            )
            observed = sequence.observe(variables, state, None)
            action = batch.action[:, t]
            after, prediction = sequence.foresee(
                variables, state, observed, action, None
            )
            drawn = normal_rows(
                jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, t),
                (config.latent_dim + model.obs_dim,),
            )
            latent, noise = jnp.split(drawn, [config.latent_dim], axis=1)
            obs = model.apply(
                {"params": params},
                *prediction,
                latent,
                decoder_noise * noise,
                log_std,
                method="next_obs",
            )
            return after.replace(obs=obs), obs

        _, obs = jax.lax.scan(step, state, jnp.arange(steps - 1))
        return jnp.moveaxis(obs, 0, 1)

    def errors(params, batch, variances, key):
        params = jax.lax.stop_gradient(params)
        half = jax.tree.map(lambda x: x[1::2], batch.replace(prompt=None))
        away = imagine(params, half, variances, key) - half.obs[:, 1:-1]
        away = jnp.clip(jnp.nan_to_num(away), -_FARTHEST, _FARTHEST)
        total = jnp.zeros_like(batch.obs[:, :-1])
        return jax.lax.stop_gradient(total.at[1::2, 1:].set(away))

    return errors
