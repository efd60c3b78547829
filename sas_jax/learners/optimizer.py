"""The optimiser that all learners share."""

import optax

from sas_jax.experiment import TrainConfig


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """AdamW behind a clip of the gradient's global norm; the schedule is Adam's own."""
    rate = config.learning_rate
    if config.schedule == "cosine":
        schedule = optax.warmup_cosine_decay_schedule(
            0.0,
            rate,
            min(config.warmup, config.num_steps - 1),
            config.num_steps,
            end_value=0.1 * rate,
        )
    else:
        schedule = optax.linear_schedule(0.0, rate, config.warmup)
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(schedule, weight_decay=config.weight_decay),
    )
