"""The world model's training loss on a batch of rows."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from sas_jax.gaussian import gaussian_entropy, gaussian_log_prob
from sas_jax.models.own_errors import own_errors
from sas_jax.models.vae import decoder_log_std, total_log_std, update_variance
from sas_jax.models.world_model import WorldModel
from sas_jax.types import Batch, Key, Metrics, Params


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of `x` over the entries where `mask` is True; 0 if there are none."""
    if x.shape != mask.shape:
        raise ValueError(f"x {x.shape} and mask {mask.shape} must have one shape")
    # `where`, not a product: NaN in the padding must not reach the mean.
    total = jnp.sum(jnp.where(mask, x, 0.0))
    return total / jnp.maximum(jnp.sum(mask), 1)


def initial_variances(obs_dim: int) -> dict[str, jax.Array]:
    """Running residual variances `[O]` of both decoders, one before any data."""
    return {"transition": jnp.ones(obs_dim), "marginal": jnp.ones(obs_dim)}


def noisy_rows(count: int) -> jax.Array:
    """`[count]` bool: every other row carries input noise, the first does not."""
    return jnp.arange(count) % 2 == 1


def draw_noise(model: WorldModel, batch: Batch, key: Key) -> dict[str, jax.Array]:
    """Standard normal draws for one training pass over `batch`; key is consumed."""
    config = model.config
    rows, steps = batch.is_valid.shape
    level_key, obs_key, transition_key, marginal_key = jax.random.split(key, 4)
    level = jax.random.uniform(level_key, (rows, 1, 1), maxval=config.state_noise)
    level = jnp.where(noisy_rows(rows)[:, None, None], level, 0.0)
    noise = jax.random.normal(obs_key, (rows, steps, model.obs_dim))
    active = jnp.asarray(model.active)[None, None]
    more_key = jax.random.fold_in(key, 4)
    return {
        "obs": jnp.where(active, level * noise, 0.0),
        "target": config.decoder_floor
        * jax.random.normal(
            jax.random.fold_in(more_key, 0), (rows, steps, model.obs_dim)
        ),
        "transition": jax.random.normal(
            transition_key, (rows, steps, config.latent_dim)
        ),
        "marginal": jax.random.normal(
            marginal_key, (rows, steps, config.marginal_latent_dim)
        ),
    }


def _negative_elbo(residual, log_std, kl, config, active, mask, step):
    """Per-dimension negative ELBO and its parts, averaged over valid steps.

    The reconstruction term divides by the number of active dimensions, and so does the
    KL: the weights mean the same for 12 and for 88 state dimensions.
    """
    wide = (1,) * (residual.ndim - 1) + (-1,)
    likelihood = gaussian_log_prob(residual, 0.0, log_std)
    likelihood = jnp.where(active.reshape(wide), likelihood, 0.0).sum(-1)
    flat_mask = jnp.broadcast_to(mask[..., None], kl.shape)
    total = jnp.sum(jnp.where(flat_mask, kl, 0.0), axis=tuple(range(kl.ndim - 1)))
    per_latent = total / jnp.maximum(mask.sum(), 1)
    warm = jnp.minimum(step / max(config.kl_warmup, 1), 1.0)
    paid = jnp.sum(jnp.maximum(per_latent, config.free_bits))
    count = jnp.maximum(active.sum(), 1)
    loss = (warm * paid - masked_mean(likelihood, mask)) / count
    elbo = masked_mean(likelihood, mask) - per_latent.sum()
    return loss, elbo, per_latent


def _blank_padding(batch: Batch) -> Batch:
    """Zeros behind each row's last next state: a weight of 0 does not hide a NaN."""
    steps = batch.is_valid
    # The entry after a valid step is its next state, and real.
    entries = jnp.concatenate([steps[:, :1], steps], axis=1)

    def blank(x, mask):
        return jnp.where(mask.reshape(*mask.shape, *(1,) * (x.ndim - 2)), x, 0)

    return batch.replace(
        obs=blank(batch.obs, entries),
        action=blank(batch.action, steps),
        return_to_go=blank(batch.return_to_go, entries),
        cost_to_go=blank(batch.cost_to_go, entries),
        cost=blank(batch.cost, steps),
        timestep=blank(batch.timestep, steps),
    )


def loss(
    model: WorldModel,
    params: Params,
    variances: dict[str, jax.Array],
    batch: Batch,
    key: Key,
    step: jax.Array,
    *,
    train: bool = True,
    temperature: jax.Array | None = None,
    input_errors: Callable | None = None,
) -> tuple[jax.Array, tuple[dict[str, jax.Array], Metrics]]:
    """Training loss; padding steps count nowhere.

    Action NLL + w_s (-ELBO of the transition) + w_m (-ELBO of the marginal)
    + w_R MSE of the next return-to-go (in units of a step's reward)
    + w_c cross-entropy of the cost [- temperature * entropy of the policy].

    Args:
      variances: running residual variances, see `initial_variances`.
      key: consumed, for dropout, input noise and latents.
      step: training step, for the KL warm-up.
      train: False evaluates: no dropout, no input noise, variances kept.
      temperature: weight of the policy's entropy, no gradient; None leaves it out.
      input_errors: (params, batch, variances, key) -> errors `[B, W, O]` of the noisy
        rows' inputs, see `free_run`; None takes those of `own_errors`.

    Returns:
      Scalar loss, and (new variances, metrics of scalars).
    """
    config, batch = model.config, _blank_padding(batch)
    noise_key, drop_key = jax.random.split(key)
    noise = draw_noise(model, batch, noise_key)
    if not train:
        noise["obs"] = jnp.zeros_like(noise["obs"])
    elif input_errors is not None:
        noise["obs"] += input_errors(
            params, batch, variances, jax.random.fold_in(noise_key, 1)
        )
    elif config.self_noise:
        noise["obs"] += own_errors(
            model, params, batch, variances, noise, jax.random.fold_in(noise_key, 1)
        )
    out = model.apply(
        {"params": params},
        batch,
        noise,
        train,
        rngs={"dropout": drop_key} if train else None,
        method="outputs",
    )
    mask, active = batch.is_valid, jnp.asarray(model.active)
    # Atoms, such as a lidar bin that sees nothing, have no density: the data are taken
    # at the resolution of the floor (dequantisation).
    residual = out["residual"] + noise["target"]
    floor, log_scale = config.decoder_floor, out["log_scale"]
    is_noisy = noisy_rows(mask.shape[0])[:, None, None]
    log_scale = jnp.where(is_noisy, jax.lax.stop_gradient(log_scale), log_scale)
    closed = decoder_log_std(variances["transition"], floor=floor)
    log_std = total_log_std(closed, log_scale, floor=floor)
    # Where the input was wrong, the model need be no surer than the input was.
    log_std = 0.5 * jnp.log(jnp.exp(2.0 * log_std) + jnp.square(noise["obs"]))
    # The decoders' variances are those of clean inputs, and a reward can be read from
    # two states that are right only.
    clean = mask & ~noisy_rows(mask.shape[0])[:, None] if train else mask
    if train:
        variances = {
            "transition": update_variance(
                variances["transition"],
                # The part of the std that is the closed form's.
                residual * jnp.exp(closed[None, None] - log_std),
                clean,
                decay=config.variance_decay,
            ),
            "marginal": update_variance(
                variances["marginal"],
                out["marginal_residual"],
                mask,
                decay=config.variance_decay,
            ),
        }
    state_loss, state_elbo, latent_kl = _negative_elbo(
        residual, log_std, out["kl"], config, active, mask, step
    )
    marginal_log_std = decoder_log_std(variances["marginal"], floor=floor)
    marginal_loss, marginal_elbo, _ = _negative_elbo(
        out["marginal_residual"],
        marginal_log_std[None, None],
        out["marginal_kl"],
        config,
        active,
        mask,
        step,
    )
    # Sharp actions come from states that are right, too.
    action_nll = -masked_mean(out["log_prob"], clean)
    return_error = (out["next_return"] - batch.return_to_go[:, 1:]) / model.reward_unit
    return_error = jnp.square(return_error)
    return_loss = masked_mean(return_error, clean)
    cost_loss = masked_mean(
        optax.sigmoid_binary_cross_entropy(out["cost_logit"], batch.cost), mask
    )
    total = (
        action_nll
        + config.state_weight * state_loss
        + config.marginal_weight * marginal_loss
        + config.return_weight * return_loss
        + config.cost_weight * cost_loss
    )
    metrics = {
        "loss": total,
        "action_nll": action_nll,
        "action_log_std": masked_mean(out["log_std"].mean(-1), mask),
        "transition_elbo": state_elbo,
        "marginal_elbo": marginal_elbo,
        "active_latents": jnp.sum(latent_kl > 0.1).astype(jnp.float32),
        "return_mse": return_loss,
        "cost_bce": cost_loss,
    }
    if temperature is not None:
        entropy = masked_mean(gaussian_entropy(out["log_std"]), mask)
        total = total - jax.lax.stop_gradient(temperature) * entropy
        metrics |= {"loss": total, "entropy": entropy, "temperature": temperature}
    return total, (variances, metrics)
