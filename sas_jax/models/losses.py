"""The world model's training loss on a batch of rows."""

import jax
import jax.numpy as jnp
import optax

from sas_jax.gaussian import gaussian_entropy, gaussian_log_prob
from sas_jax.models.own_errors import own_errors
from sas_jax.models.vae import decoder_log_std, total_log_std, update_variance
from sas_jax.models.world_model import WorldModel
from sas_jax.types import Batch, Key, Metrics, Params

# Training steps until the KL terms count in full.
KL_WARMUP = 1000
# Share of a running residual variance that one training step keeps.
VARIANCE_DECAY = 0.99
# A latent whose KL to the prior is larger tells something of its input. Another measure
# than the card's active units, which look at the posterior's mean.
_TELLING_NATS = 0.1


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
    """`[count]` bool: every other row carries input errors, the first does not."""
    return jnp.arange(count) % 2 == 1


def draw_noise(model: WorldModel, batch: Batch, key: Key) -> dict[str, jax.Array]:
    """Standard normal draws for one pass over `batch`; key is consumed.

    "obs" is what is added to the observations that the model reads: nothing yet.
    """
    config = model.config
    rows, steps = batch.is_valid.shape
    # The first two streams are unused; a change would give other trainings.
    _, _, transition_key, marginal_key = jax.random.split(key, 4)
    target_key = jax.random.fold_in(jax.random.fold_in(key, 4), 0)

    def normal(key, size):
        return jax.random.normal(key, (rows, steps, size))

    return {
        "obs": jnp.zeros((rows, steps, model.obs_dim)),
        "target": config.decoder_floor * normal(target_key, model.obs_dim),
        "transition": normal(transition_key, config.latent_dim),
        "marginal": normal(marginal_key, config.marginal_latent_dim),
    }


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
) -> tuple[jax.Array, tuple[dict[str, jax.Array], Metrics]]:
    """Training loss; padding steps count nowhere.

    Action NLL + w_s (-ELBO of the transition) + w_m (-ELBO of the marginal)
    + w_R MSE of the next return-to-go (in units of a step's reward)
    + w_c cross-entropy of the cost [- temperature * entropy of the policy].
    The cost's is over `batch.lone` where there are any.

    Args:
      variances: running residual variances, see `initial_variances`.
      key: consumed, for dropout, input errors and latents.
      step: training step, for the KL warm-up.
      train: False evaluates: no dropout, no input errors, variances kept.
      temperature: weight of the policy's entropy, no gradient; None leaves it out.

    Returns:
      Scalar loss, and (new variances, metrics of scalars).
    """
    config, lone = model.config, batch.lone
    batch = _blank_padding(batch.replace(lone=None))
    noise_key, drop_key = jax.random.split(key)
    noise = draw_noise(model, batch, noise_key)
    has_errors = train and config.self_noise > 0
    if has_errors:
        noise["obs"] = own_errors(
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
    mask = batch.is_valid
    is_noisy = noisy_rows(mask.shape[0])[:, None] & has_errors
    # What can be learnt from states that are right only.
    clean = mask & ~is_noisy
    state_loss, transition, metrics = _transition_loss(
        model, variances["transition"], out, noise, mask, clean, is_noisy, step, train
    )
    marginal_loss, marginal, marginal_elbo = _marginal_loss(
        model, variances["marginal"], out, mask, step, train
    )
    metrics["marginal_elbo"] = marginal_elbo
    action_nll = -masked_mean(out["log_prob"], clean)
    return_error = (out["next_return"] - batch.return_to_go[:, 1:]) / model.reward_unit
    return_loss = masked_mean(jnp.square(return_error), clean)
    # A stay in a hazard is one long row of costs: too few of them in a batch of rows to
    # find a threshold by. The law of costs has no memory, so lone steps teach it.
    if lone is None:
        logit, cost, counts = out["cost_logit"], batch.cost, mask
    else:
        logit = model.apply({"params": params}, lone.next_obs, method="cost_logit")
        cost, counts = lone.cost, jnp.ones(lone.cost.shape, bool)
    cost_loss = masked_mean(optax.sigmoid_binary_cross_entropy(logit, cost), counts)
    total = (
        action_nll
        + config.state_weight * state_loss
        + config.marginal_weight * marginal_loss
        + config.return_weight * return_loss
        + config.cost_weight * cost_loss
    )
    metrics |= {
        "loss": total,
        "action_nll": action_nll,
        "action_log_std": masked_mean(out["log_std"].mean(-1), mask),
        "return_mse": return_loss,
        "cost_bce": cost_loss,
    }
    if temperature is not None:
        entropy = masked_mean(gaussian_entropy(out["log_std"]), mask)
        total = total - jax.lax.stop_gradient(temperature) * entropy
        metrics |= {"loss": total, "entropy": entropy, "temperature": temperature}
    return total, ({"transition": transition, "marginal": marginal}, metrics)


def _transition_loss(
    model, variance, out, noise, mask, clean, is_noisy, step, train: bool
):
    """The transition's negative ELBO, its new variance `[O]`, and two metrics.

    Args:
      variance: `[O]` running residual variance. out: `WorldModel.outputs`.
      noise: as in `draw_noise`, with the errors of the inputs in "obs".
      mask, clean: `[B, W]` steps that count, and those whose input is right.
      is_noisy: `[B, 1]` rows with errors.
    """
    floor = model.config.decoder_floor
    # Where a lidar sees nothing it reads exactly 0, and no density is finite at such an
    # atom. So the target is blurred by the floor, the resolution of all densities
    # (dequantisation).
    residual = out["residual"] + noise["target"]
    # Rows with errors do not teach the spread: theirs is that of the errors.
    log_scale = jnp.where(
        is_noisy[..., None],
        jax.lax.stop_gradient(out["log_scale"]),
        out["log_scale"],
    )
    closed = decoder_log_std(variance, floor=floor)
    log_std = total_log_std(closed, log_scale, floor=floor)
    # An input's error makes its target uncertain by as much.
    log_std = 0.5 * jnp.log(jnp.exp(2.0 * log_std) + jnp.square(noise["obs"]))
    if train:
        # The part of the std that is the closed form's.
        plain = residual * jnp.exp(closed[None, None] - log_std)
        variance = update_variance(variance, plain, clean, decay=VARIANCE_DECAY)
    negative, elbo, latent_kl = _negative_elbo(
        model, residual, log_std, out["kl"], mask, step
    )
    told = jnp.sum(latent_kl > _TELLING_NATS).astype(jnp.float32)
    return negative, variance, {"transition_elbo": elbo, "telling_latents": told}


def _marginal_loss(model, variance, out, mask, step, train: bool):
    """The marginal's negative ELBO, its new variance `[O]`, and its ELBO."""
    residual = out["marginal_residual"]
    if train:
        variance = update_variance(variance, residual, mask, decay=VARIANCE_DECAY)
    log_std = decoder_log_std(variance, floor=model.config.decoder_floor)
    negative, elbo, _ = _negative_elbo(
        model, residual, log_std[None, None], out["marginal_kl"], mask, step
    )
    return negative, variance, elbo


def _negative_elbo(model, residual, log_std, kl, mask, step):
    """Per-dimension negative ELBO and its parts, averaged over valid steps.

    The reconstruction term divides by the number of active dimensions, and so does the
    KL: the weights mean the same for 12 and for 88 state dimensions.
    """
    active = jnp.asarray(model.active)
    wide = (1,) * (residual.ndim - 1) + (-1,)
    likelihood = gaussian_log_prob(residual, 0.0, log_std)
    likelihood = jnp.where(active.reshape(wide), likelihood, 0.0).sum(-1)
    flat_mask = jnp.broadcast_to(mask[..., None], kl.shape)
    total = jnp.sum(jnp.where(flat_mask, kl, 0.0), axis=tuple(range(kl.ndim - 1)))
    per_latent = total / jnp.maximum(mask.sum(), 1)
    warm = jnp.minimum(step / KL_WARMUP, 1.0)
    paid = jnp.sum(jnp.maximum(per_latent, model.config.free_bits))
    count = jnp.maximum(active.sum(), 1)
    loss = (warm * paid - masked_mean(likelihood, mask)) / count
    elbo = masked_mean(likelihood, mask) - per_latent.sum()
    return loss, elbo, per_latent
