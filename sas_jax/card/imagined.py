"""The card's part about imagination: density, spread and cost against reality."""

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.alignment.imagination import imagine
from sas_jax.gaussian import split_keys
from sas_jax.models.vae import decoder_log_std
from sas_jax.policies.teacher_forcing import Steps, at_present, force

HORIZONS = (10, 25, 50, 100)


def imagine_from(model, spec, variables, rows, key, num_candidates):
    """Free-running imagination after the real context: StepOutput `[C, B, T, ...]`.

    The real context is written into the ring by the very step that imagines.
    """
    batch, context = rows.batch, rows.context
    # Rows may begin anywhere in an episode.
    past = Steps(
        obs=batch.obs[:, :context],
        action=batch.action[:, :context],
        return_to_go=batch.return_to_go[:, :context] * spec.return_scale,
        cost_to_go=batch.cost_to_go[:, :context] * spec.cost_scale,
        length=jnp.full(batch.obs.shape[0], context),
    )

    def one_candidate(candidate_key):
        count = batch.is_valid.shape[0]
        keys = split_keys(candidate_key, count)
        raw = batch.obs[:, 0] * spec.obs_std[None] + spec.obs_mean[None]
        zeros = jnp.zeros(count)
        state = model.start(variables, keys, raw, zeros, zeros, model.context)
        state = state.replace(timestep=batch.timestep[:, 0])
        most = state.window
        state, _ = force(model, variables, state, past, is_standardised=True)
        state = at_present(
            state.replace(window=jnp.minimum(most, context + 1)),
            batch.obs[:, context],
            batch.return_to_go[:, context] * spec.return_scale,
            batch.cost_to_go[:, context] * spec.cost_scale,
        )

        def step(variables, keys, state, prompt):
            output, after = model.step(variables, keys, state, prompt)
            return output, after.replace(window=jnp.minimum(most, state.window + 1))

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
    imagined = model.standardise(outputs.obs[0])
    real = rows.batch.obs[:, rows.context : -1]
    valid = np.asarray(rows.batch.is_valid[:, rows.context :])
    steps = list(range(1, rows.horizon + 1))
    density = {"steps": steps}
    for name, obs in (("imagined", imagined), ("real", real)):
        found = _marginal_densities(net, variables, obs, seed + 1)
        values = np.where(valid.T, np.asarray(found), np.nan)
        density[f"{name}_mean"] = np.nanmean(values, 1).tolist()
        density[f"{name}_sd"] = np.nanstd(values, 1).tolist()
    active = np.asarray(spec.obs_active)

    def spread(x):
        x = np.where(valid[..., None], np.asarray(x), np.nan)[..., active]
        return np.sqrt(np.nanmean(np.nanvar(x, axis=0), axis=-1))

    ratio = spread(imagined) / np.maximum(spread(real), 1e-12)
    return {
        "log_density": density,
        "spread": {"steps": steps, "ratio": ratio.tolist()},
        "cost": _cost_part(outputs.cost, rows, valid),
    }


def _marginal_densities(net, variables, obs, seed: int):
    """Log-densities `[T, B]` of states `[B, T, O]` under the data's distribution."""

    @jax.jit
    def run(variables, x):
        log_std = decoder_log_std(
            variables["variances"]["marginal"], floor=net.config.decoder_floor
        )

        def at_step(step_obs):
            noise = jax.random.normal(
                jax.random.key(seed),
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

    return run(variables, obs)


def _cost_part(imagined, rows, valid):
    """Imagined cost `[C, B, T]` against the cost of the real continuation."""
    imagined = np.asarray(imagined)
    predicted = np.where(valid, imagined.mean(0), 0.0)
    single = np.where(valid, imagined[0], 0.0)
    real = np.where(valid, np.asarray(rows.batch.cost[:, rows.context :]), 0.0)
    # Shorter episodes than the shortest of them have their own.
    horizons = [h for h in HORIZONS if h <= rows.horizon] or [rows.horizon]
    of_mean, of_one, of_real = (
        [x[:, :h].sum(1) for h in horizons] for x in (predicted, single, real)
    )
    return {
        "horizons": horizons,
        "correlation": list(map(correlation, of_mean, of_real)),
        "correlation_single": list(map(correlation, of_one, of_real)),
        "rate_imagined": [
            float(x.mean() / h) for x, h in zip(of_mean, horizons, strict=True)
        ],
        "rate_real": [
            float(x.mean() / h) for x, h in zip(of_real, horizons, strict=True)
        ],
        "candidates": len(imagined),
    }
