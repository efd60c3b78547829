"""The world-model card: is this model worth imagining with? (algorithm, section 9)

Measured on held-out episodes, in the model's own units, without clipping imagined
states. Each start gets `context` real steps, fed through the same cached step that
imagines, then runs free. All numbers are JSON; the report reads nothing else.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.data import windows
from sas_jax.data.episodes import Episodes
from sas_jax.experiment import ExperimentConfig, make_model
from sas_jax.imagination import imagine
from sas_jax.learners import sequence
from sas_jax.losses import Batch
from sas_jax.seam import split_keys
from sas_jax.spec import DataSpec
from sas_jax.types import TrainState
from sas_jax.vae import decoder_log_std

HORIZONS = (10, 25, 50, 100)
# A latent counts as active when its posterior mean varies over the data (Burda et al.).
_ACTIVE_VARIANCE = 0.01
_PIT_BINS = 10


class _Rows(NamedTuple):
    """Held-out rows: real context, then the real continuation of the same length."""

    batch: Batch
    context: int
    horizon: int


def _draw_rows(data, num_starts, context, horizon, seed) -> _Rows:
    """`num_starts` rows of context + horizon steps, uniform over where they fit."""
    length = context + horizon
    lengths = np.asarray(data.lengths)
    room = np.maximum(lengths - length, 0)
    rng = np.random.default_rng(seed)
    fitting = np.flatnonzero(lengths >= length)
    if fitting.size == 0:
        fitting = np.arange(len(lengths))
    episode = rng.choice(fitting, num_starts, p=_shares(room[fitting] + 1))
    start = rng.integers(0, room[episode] + 1)
    batch = windows.rows_at(
        data, jnp.asarray(episode), jnp.asarray(start, jnp.int32), row_length=length
    )
    return _Rows(batch, context, horizon)


def _shares(weights):
    return weights / weights.sum()


def _imagine_from(model, spec, variables, rows, key, num_candidates):
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


def _correlation(a, b) -> float:
    """Pearson correlation, NaN when a side does not vary."""
    if np.std(a) == 0 or np.std(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _auc(score, label) -> float:
    """Area under the ROC curve by ranks; NaN when only one class occurs."""
    positives = int(label.sum())
    negatives = label.size - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    total = rank[label > 0].sum() - positives * (positives + 1) / 2
    return float(total / (positives * negatives))


def _imagination_parts(model, net, spec, variables, rows, seed, num_candidates):
    """Density, spread and cost of imagination against the real continuation."""
    run = jax.jit(
        functools.partial(
            _imagine_from, model, spec, variables, rows, num_candidates=num_candidates
        )
    )
    outputs = run(jax.random.key(seed))
    context = rows.context
    real_obs = rows.batch.obs[:, context:-1]
    valid = np.asarray(rows.batch.is_valid[:, context:])
    obs = model.standardise(outputs.obs[0])
    log_std = decoder_log_std(
        variables["variances"]["marginal"], floor=net.config.decoder_floor
    )

    @jax.jit
    def log_density(x):
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

    imagined_mean, imagined_sd = curve(log_density(obs))
    real_mean, real_sd = curve(log_density(real_obs))
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
            "correlation": [_correlation(p, r) for p, r in sums],
            "correlation_single": [
                _correlation(single[:, :h].sum(1), real_cost[:, :h].sum(1))
                for h in horizons
            ],
            "rate_imagined": [float(p.mean() / h) for (p, _), h in pairs],
            "rate_real": [float(r.mean() / h) for (_, r), h in pairs],
            "candidates": num_candidates,
        },
    }


def _transition_parts(net, spec, variables, rows, seed):
    """Calibration and likelihood of one real step ahead, given the real history."""
    batch, context = rows.batch, rows.context
    params = {"params": variables["params"]}
    log_std = decoder_log_std(
        variables["variances"]["transition"], floor=net.config.decoder_floor
    )
    active = jnp.asarray(spec.obs_active)

    @jax.jit
    def measure(key):
        obs, target = batch.obs[:, :-1], batch.obs[:, 1:]
        z_state, z_action = net.apply(
            params,
            obs,
            batch.action,
            batch.return_to_go[:, :-1],
            batch.cost_to_go[:, :-1],
            batch.timestep,
            batch.is_valid,
            False,
            method="hidden",
        )
        cut = (slice(None), slice(context, None, 4))
        obs, target, action = obs[cut], target[cut], batch.action[cut]
        z_state, z_action = z_state[cut], z_action[cut]
        latent_key, bound_key = jax.random.split(key)
        shape = (*obs.shape[:2], net.config.latent_dim)
        likelihood = net.apply(
            params,
            z_action,
            obs,
            action,
            target,
            jax.random.normal(bound_key, (16, *shape)),
            log_std,
            method="transition_log_density",
        )

        def below(sample_key):
            mean = net.apply(
                params,
                z_action,
                obs,
                action,
                jax.random.normal(sample_key, shape),
                jnp.zeros_like(obs),
                log_std,
                method="next_obs",
            )
            scaled = (target - mean) * jnp.exp(-log_std)[None, None]
            return jax.scipy.stats.norm.cdf(scaled)

        pit = jax.lax.map(below, split_keys(latent_key, 32)).mean(0)
        mean, action_log_std = net.apply(
            params, z_state, obs, method="action_distribution"
        )
        posterior, _ = net.apply(
            params,
            target - obs,
            jnp.concatenate([z_action, obs, action], -1),
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
            "posterior_variance": posterior.reshape(-1, shape[-1]).var(0),
            "predicted_reward": batch.return_to_go[:, :-1][cut] - next_return,
            "reward": batch.return_to_go[:, :-1][cut] - batch.return_to_go[:, 1:][cut],
            "logit": logit,
            "cost": batch.cost[cut],
            "valid": batch.is_valid[cut],
            "action_error": jnp.abs(action - jnp.clip(mean, -1, 1)).mean(-1),
            "action_std": jnp.exp(action_log_std).mean(-1),
        }

    out = jax.device_get(measure(jax.random.key(seed)))
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
            "auc": _auc(logit, cost),
        },
        "policy": {
            "mean_absolute_error": float(out["action_error"][valid].mean()),
            "mean_std": float(out["action_std"][valid].mean()),
        },
    }


def make_card(
    config: ExperimentConfig,
    spec: DataSpec,
    state: TrainState,
    held_out: Episodes,
    *,
    num_starts: int = 256,
    context: int = 20,
    horizon: int = 100,
    num_candidates: int = 8,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures a model on held-out episodes.

    Args:
      config, spec, state: the model (state without a seed axis).
      held_out: episodes that training has not seen.
      num_starts: rows; context, horizon: real steps before, imagined steps after.
      num_candidates: imaginations per start whose mean cost is the prediction.
      seed: fixes rows and draws.

    Returns:
      dict of parts: log_density, spread, cost, pit, transition, latents, next_return,
      cost_head, policy, settings. Costs count per step; log-densities are nats in
      standardised units over the active dimensions.
    """
    longest = int(held_out.lengths.max())
    context = max(min(context, longest // 2), 1)
    horizon = max(min(horizon, longest - context), 1)
    data = windows.to_device(held_out, spec)
    rows = _draw_rows(data, num_starts, context, horizon, seed)
    model = sequence.make_sequence_model(config, spec)
    net = make_model(config, spec)
    variables = sequence.variables_of(state)
    card = _imagination_parts(
        model, net, spec, variables, rows, seed, num_candidates
    ) | _transition_parts(net, spec, variables, rows, seed)
    card["settings"] = {
        "starts": num_starts,
        "context": context,
        "horizon": horizon,
        "held_out_episodes": held_out.num_episodes,
        "held_out_fingerprint": held_out.fingerprint(),
        "step": int(state.step),
    }
    return card
