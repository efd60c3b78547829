"""The card's part about imagination: density, spread and cost against reality."""

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.alignment.imagination import imagine
from sas_jax.gaussian import split_keys
from sas_jax.models.vae import decoder_log_std

HORIZONS = (10, 25, 50, 100)


def imagine_from(model, spec, variables, rows, key, num_candidates):
    """Free-running imagination after the real context: StepOutput `[C, B, T, ...]`.

    The real context is written into the ring by the very step that imagines.
    """
    batch, context = rows.batch, rows.context

    def one_candidate(candidate_key):
        count = batch.is_valid.shape[0]
        keys = split_keys(candidate_key, count)
        raw = batch.obs[:, 0] * spec.obs_std[None] + spec.obs_mean[None]
        zeros = jnp.zeros(count)
        state = model.start(variables, keys, raw, zeros, zeros, model.context)

        def tokens(state, t):
            return state.replace(
                obs=batch.obs[:, t],
                return_to_go=batch.return_to_go[:, t] * spec.return_scale,
                cost_to_go=batch.cost_to_go[:, t] * spec.cost_scale,
            )

        def feed(state, t):
            # Rows may begin anywhere in an episode: the ring counts remembered steps,
            # while the embedding wants the true time step.
            state = tokens(state, t)
            observed = model.observe(variables, state, None)
            state = model.commit(variables, state, observed, batch.action[:, t], None)
            return state, None

        state = state.replace(timestep=batch.timestep[:, 0])
        state = state.replace(window=jnp.ones_like(state.window))
        for_window = jnp.full_like(state.window, model.context)

        def feed_growing(state, t):
            state = state.replace(window=jnp.minimum(for_window, t + 1))
            return feed(state, t)

        state, _ = jax.lax.scan(feed_growing, state, jnp.arange(context))
        state = state.replace(window=jnp.minimum(for_window, context + 1))
        state = tokens(state, context)

        def step(variables, keys, state, prompt):
            output, after = model.step(variables, keys, state, prompt)
            window = jnp.minimum(for_window, state.window + 1)
            return output, after.replace(window=window)

        outputs, _ = imagine(step, variables, keys, state, None, horizon=rows.horizon)
        return outputs

    return jax.lax.map(one_candidate, split_keys(key, num_candidates))


def correlation(a, b) -> float:
    """Pearson correlation, NaN when a side does not vary."""
    if np.std(a) == 0 or np.std(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def imagination_parts(model, net, spec, variables, rows, seed, num_candidates):
    """Density, spread and cost of imagination against the real continuation."""

    @jax.jit
    def run(variables, key):
        return imagine_from(model, spec, variables, rows, key, num_candidates)

    outputs = run(variables, jax.random.key(seed))
    context = rows.context
    real_obs = rows.batch.obs[:, context:-1]
    valid = np.asarray(rows.batch.is_valid[:, context:])
    obs = model.standardise(outputs.obs[0])

    @jax.jit
    def log_density(variables, x):
        log_std = decoder_log_std(
            variables["variances"]["marginal"], floor=net.config.decoder_floor
        )

        def at_step(step_obs):
            noise = jax.random.normal(
                jax.random.key(seed + 1),
                (8, step_obs.shape[0], net.config.marginal_latent_dim),
            )
            return net.apply(
                {"params": variables["params"]},
                step_obs,
                noise,
                log_std,
                method="marginal_log_density",
            )

        return jax.lax.map(at_step, jnp.moveaxis(x, 1, 0))

    def curve(values):
        values = np.where(valid.T, np.asarray(values), np.nan)
        return np.nanmean(values, 1), np.nanstd(values, 1)

    imagined_mean, imagined_sd = curve(log_density(variables, obs))
    real_mean, real_sd = curve(log_density(variables, real_obs))
    active = np.asarray(spec.obs_active)

    def spread(x):
        x = np.where(valid[..., None], np.asarray(x), np.nan)[..., active]
        return np.sqrt(np.nanmean(np.nanvar(x, axis=0), axis=-1))

    ratio = spread(obs) / np.maximum(spread(real_obs), 1e-12)
    predicted = np.where(valid, np.asarray(outputs.cost).mean(0), 0.0)
    single = np.where(valid, np.asarray(outputs.cost)[0], 0.0)
    real_cost = np.where(valid, np.asarray(rows.batch.cost[:, context:]), 0.0)
    horizons = [h for h in HORIZONS if h <= rows.horizon]
    sums = [(predicted[:, :h].sum(1), real_cost[:, :h].sum(1)) for h in horizons]
    pairs = list(zip(sums, horizons, strict=True))
    steps = list(range(1, rows.horizon + 1))
    return {
        "log_density": {
            "steps": steps,
            "imagined_mean": imagined_mean.tolist(),
            "imagined_sd": imagined_sd.tolist(),
            "real_mean": real_mean.tolist(),
            "real_sd": real_sd.tolist(),
        },
        "spread": {"steps": steps, "ratio": ratio.tolist()},
        "cost": {
            "horizons": horizons,
            "correlation": [correlation(p, r) for p, r in sums],
            "correlation_single": [
                correlation(single[:, :h].sum(1), real_cost[:, :h].sum(1))
                for h in horizons
            ],
            "rate_imagined": [float(p.mean() / h) for (p, _), h in pairs],
            "rate_real": [float(r.mean() / h) for (_, r), h in pairs],
            "candidates": num_candidates,
        },
    }
