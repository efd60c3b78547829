"""The card's part about one step: calibration, likelihood, latents and heads."""

import functools
from typing import NamedTuple

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
_IMPORTANCE_SAMPLES = 16
# What is measured of every step, and counts where the step is no padding.
_BY_STEP = (
    "likelihood",
    "pit",
    "predicted_reward",
    "reward",
    "logit",
    "cost",
    "action_error",
    "action_std",
)


class _Moments(NamedTuple):
    """Every fourth real step after the context, `[B, n, ...]` in the model's units.

    z_state, z_action: hidden states. change: from the step before. blurred: the next
    observation at the resolution of the decoder's floor, as densities take it.
    """

    z_state: jax.Array
    z_action: jax.Array
    obs: jax.Array
    change: jax.Array
    action: jax.Array
    next_obs: jax.Array
    blurred: jax.Array
    return_to_go: jax.Array
    next_return: jax.Array
    cost_to_go: jax.Array
    timestep: jax.Array
    cost: jax.Array
    valid: jax.Array

    @property
    def context(self) -> jax.Array:
        """What the transition's encoder and decoder are told."""
        return jnp.concatenate([self.z_action, self.obs, self.action, self.change], -1)


def transition_parts(net, spec, variables, rows, seed):
    """Calibration and likelihood of one real step ahead, given the real history."""
    measure = jax.jit(functools.partial(_measure, net, rows.context))
    out = jax.device_get(measure(variables, rows.batch, jax.random.key(seed)))
    out = {name: x[out["valid"]] if name in _BY_STEP else x for name, x in out.items()}
    active = np.asarray(spec.obs_active)
    likelihood = float(out["likelihood"].mean())
    active_latents = out["posterior_variance"] > _ACTIVE_VARIANCE
    reward = out["reward"] * spec.return_scale
    error = out["predicted_reward"] * spec.return_scale - reward
    return {
        "pit": _pit_part(out["pit"][:, active]),
        "transition": {
            "log_likelihood": likelihood,
            "per_dimension": likelihood / max(int(active.sum()), 1),
            "importance_samples": _IMPORTANCE_SAMPLES,
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
        "cost_head": _cost_part(out["cost"], out["logit"]),
        "policy": {
            "mean_absolute_error": float(out["action_error"].mean()),
            "mean_std": float(out["action_std"].mean()),
        },
    }


def _pit_part(pit: np.ndarray) -> dict:
    """Probability integral transforms `[n, O]` against the uniform distribution."""
    counts = np.histogram(pit, bins=_PIT_BINS, range=(0.0, 1.0))[0]
    grid = (np.arange(pit.shape[0]) + 0.5) / pit.shape[0]
    kolmogorov = np.abs(np.sort(pit, axis=0) - grid[:, None]).max(0)
    return {
        "counts": counts.tolist(),
        # Dimensions of one step are dependent: count steps, not values.
        "independent": len(pit),
        "ks_mean": float(kolmogorov.mean()),
        "ks_max": float(kolmogorov.max()),
    }


def _cost_part(cost: np.ndarray, logit: np.ndarray) -> dict:
    """The cost head's log-odds `[n]` against what the steps cost, 0 or 1."""
    rate = float(np.clip(cost.mean(), 1e-6, 1 - 1e-6))
    bce = np.logaddexp(0.0, logit) - cost * logit
    base = -rate * np.log(rate) - (1 - rate) * np.log1p(-rate)
    return {
        "bce": float(bce.mean()),
        "bce_of_base_rate": float(base),
        "auc": auc(logit, cost),
    }


def _measure(net, context: int, variables, batch, key) -> dict[str, jax.Array]:
    """Everything that is measured of a batch of rows, from their step `context` on."""
    params = {"params": variables["params"]}
    log_std = decoder_log_std(
        variables["variances"]["transition"], floor=net.config.decoder_floor
    )
    now = _moments(net, params, context, batch, jax.random.fold_in(key, 1))
    latent_key, bound_key = jax.random.split(key)
    mean, action_log_std = net.apply(
        params,
        now.z_state,
        now.obs,
        now.return_to_go,
        now.cost_to_go,
        now.timestep,
        method="action_distribution",
    )
    posterior, _ = net.apply(
        params,
        now.next_obs - now.obs,
        now.context,
        method=lambda m, x, c: m.transition.encode(x, c),
    )
    next_return = net.apply(
        params,
        now.z_action,
        now.obs,
        now.action,
        now.next_obs,
        now.return_to_go,
        method="next_return",
    )
    return {
        "likelihood": _likelihood(net, params, now, log_std, bound_key),
        "pit": _pit(net, params, now, log_std, latent_key),
        "posterior_variance": posterior.var((0, 1)),
        "predicted_reward": now.return_to_go - next_return,
        "reward": now.return_to_go - now.next_return,
        "logit": net.apply(params, now.next_obs, method="cost_logit"),
        "cost": now.cost,
        "valid": now.valid,
        "action_error": jnp.abs(now.action - jnp.clip(mean, -1, 1)).mean(-1),
        "action_std": jnp.exp(action_log_std).mean(-1),
    }


def _moments(net, params, context: int, batch, key) -> _Moments:
    """Where the model is measured; key is of the blur."""
    obs, following = batch.obs[:, :-1], batch.obs[:, 1:]
    z_state, z_action = net.apply(params, batch, obs, False, method="hidden_of")
    cut = (slice(None), slice(context, None, 4))
    next_obs = following[cut]
    noise = jax.random.normal(key, next_obs.shape)
    return _Moments(
        z_state=z_state[cut],
        z_action=z_action[cut],
        obs=obs[cut],
        change=last_change(obs)[cut],
        action=batch.action[cut],
        next_obs=next_obs,
        blurred=next_obs + net.config.decoder_floor * noise,
        return_to_go=batch.return_to_go[:, :-1][cut],
        next_return=batch.return_to_go[:, 1:][cut],
        cost_to_go=batch.cost_to_go[:, :-1][cut],
        timestep=batch.timestep[cut],
        cost=batch.cost[cut],
        valid=batch.is_valid[cut],
    )


def _likelihood(net, params, now: _Moments, log_std, key) -> jax.Array:
    """Log-density `[B, n]` of what followed, by importance samples."""

    def bound(row):
        """Log-density `[n]` of one row's steps."""
        *situation, noise = row
        return net.apply(
            params,
            *situation,
            jnp.swapaxes(noise, 0, 1),
            log_std,
            method="transition_log_density",
        )

    shape = (*now.obs.shape[:2], _IMPORTANCE_SAMPLES, net.config.latent_dim)
    noise = jax.random.normal(key, shape)
    given = (now.z_action, now.obs, now.change, now.action, now.blurred, noise)
    # Row by row: all samples of all rows at once took 4 GB in the bins' network.
    return jax.lax.map(bound, given)


def _pit(net, params, now: _Moments, log_std, key) -> jax.Array:
    """Probability `[B, n, O]` that the model gave to less than what followed."""
    shape = (*now.obs.shape[:2], net.config.latent_dim)

    def below(sample_key):
        mean, log_scale = net.apply(
            params,
            jax.random.normal(sample_key, shape),
            now.context,
            method=lambda m, z, c: m.transition.decode(z, c),
        )
        total = total_log_std(log_std, log_scale, floor=net.config.decoder_floor)
        scaled = (now.blurred - now.obs - mean) * jnp.exp(-total)
        return jax.scipy.stats.norm.cdf(scaled)

    return jax.lax.map(below, split_keys(key, 32)).mean(0)
