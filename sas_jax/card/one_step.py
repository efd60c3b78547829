"""The card's part about one step: calibration, likelihood, latents and heads."""

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.gaussian import split_keys
from sas_jax.models.vae import decoder_log_std, total_log_std
from sas_jax.models.world_model import last_change
from sas_jax.stats.ranks import auc

# A latent counts as active when its posterior mean varies over the data (Burda et al.).
_ACTIVE_VARIANCE = 0.01
_PIT_BINS = 10


def transition_parts(net, spec, variables, rows, seed):
    """Calibration and likelihood of one real step ahead, given the real history."""
    batch, context = rows.batch, rows.context
    active = jnp.asarray(spec.obs_active)

    @jax.jit
    def measure(variables, batch, key):
        params = {"params": variables["params"]}
        log_std = decoder_log_std(
            variables["variances"]["transition"], floor=net.config.decoder_floor
        )
        obs, target = batch.obs[:, :-1], batch.obs[:, 1:]
        z_state, z_action = net.apply(params, batch, obs, False, method="hidden_of")
        cut = (slice(None), slice(context, None, 4))
        change = last_change(obs)[cut]
        obs, target, action = obs[cut], target[cut], batch.action[cut]
        # Densities are taken at the resolution of the decoder's floor.
        floor = net.config.decoder_floor
        blurred = target + floor * jax.random.normal(
            jax.random.fold_in(key, 1), target.shape
        )
        z_state, z_action = z_state[cut], z_action[cut]
        latent_key, bound_key = jax.random.split(key)
        shape = (*obs.shape[:2], net.config.latent_dim)

        def bound(row):
            """Log-density `[T]` of one row's steps, 16 importance samples."""
            *situation, noise = row
            return net.apply(
                params,
                *situation,
                jnp.swapaxes(noise, 0, 1),
                log_std,
                method="transition_log_density",
            )

        # Row by row: all samples of all rows at once took 4 GB in the bins' network.
        noise = jax.random.normal(bound_key, (*shape[:2], 16, shape[2]))
        likelihood = jax.lax.map(bound, (z_action, obs, change, action, blurred, noise))

        def below(sample_key):
            mean, log_scale = net.apply(
                params,
                jax.random.normal(sample_key, shape),
                jnp.concatenate([z_action, obs, action, change], -1),
                method=lambda m, z, c: m.transition.decode(z, c),
            )
            total = total_log_std(log_std, log_scale, floor=floor)
            scaled = (blurred - obs - mean) * jnp.exp(-total)
            return jax.scipy.stats.norm.cdf(scaled)

        pit = jax.lax.map(below, split_keys(latent_key, 32)).mean(0)
        mean, action_log_std = net.apply(
            params,
            z_state,
            obs,
            batch.return_to_go[:, :-1][cut],
            batch.cost_to_go[:, :-1][cut],
            batch.timestep[cut],
            method="action_distribution",
        )
        posterior, _ = net.apply(
            params,
            target - obs,
            jnp.concatenate([z_action, obs, action, change], -1),
            method=lambda m, x, c: m.transition.encode(x, c),
        )
        next_return = net.apply(
            params,
            z_action,
            obs,
            action,
            target,
            batch.return_to_go[:, :-1][cut],
            method="next_return",
        )
        logit = net.apply(params, z_action, target, method="cost_logit")
        return {
            "likelihood": likelihood,
            "pit": pit,
            "posterior_variance": posterior.var((0, 1)),
            "predicted_reward": batch.return_to_go[:, :-1][cut] - next_return,
            "reward": batch.return_to_go[:, :-1][cut] - batch.return_to_go[:, 1:][cut],
            "logit": logit,
            "cost": batch.cost[cut],
            "valid": batch.is_valid[cut],
            "action_error": jnp.abs(action - jnp.clip(mean, -1, 1)).mean(-1),
            "action_std": jnp.exp(action_log_std).mean(-1),
        }

    out = jax.device_get(measure(variables, batch, jax.random.key(seed)))
    valid = out["valid"]
    pit = out["pit"][valid][:, np.asarray(active)]
    counts = np.histogram(pit, bins=_PIT_BINS, range=(0.0, 1.0))[0]
    grid = (np.arange(pit.shape[0]) + 0.5) / pit.shape[0]
    kolmogorov = np.abs(np.sort(pit, axis=0) - grid[:, None]).max(0)
    reward = out["reward"][valid] * spec.return_scale
    error = out["predicted_reward"][valid] * spec.return_scale - reward
    cost, logit = out["cost"][valid], out["logit"][valid]
    rate = float(np.clip(cost.mean(), 1e-6, 1 - 1e-6))
    bce = np.logaddexp(0.0, logit) - cost * logit
    active_latents = out["posterior_variance"] > _ACTIVE_VARIANCE
    return {
        "pit": {
            "counts": counts.tolist(),
            # Dimensions of one step are dependent: count steps, not values.
            "independent": int(valid.sum()),
            "ks_mean": float(kolmogorov.mean()),
            "ks_max": float(kolmogorov.max()),
        },
        "transition": {
            "log_likelihood": float(out["likelihood"][valid].mean()),
            "per_dimension": float(
                out["likelihood"][valid].mean() / max(int(active.sum()), 1)
            ),
            "importance_samples": 16,
        },
        "latents": {
            "active": int(active_latents.sum()),
            "total": int(active_latents.size),
        },
        "next_return": {
            "rmse": float(np.sqrt(np.square(error).mean())),
            "reward_sd": float(reward.std()),
            "r2": float(1 - np.square(error).mean() / max(reward.var(), 1e-12)),
        },
        "cost_head": {
            "bce": float(bce.mean()),
            "bce_of_base_rate": float(
                -rate * np.log(rate) - (1 - rate) * np.log1p(-rate)
            ),
            "auc": auc(logit, cost),
        },
        "policy": {
            "mean_absolute_error": float(out["action_error"][valid].mean()),
            "mean_std": float(out["action_std"][valid].mean()),
        },
    }
