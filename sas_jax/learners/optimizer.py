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
        # No ramp of no steps: Optax would stay at its beginning, a rate of 0.
        ramp = optax.linear_schedule(0.0, rate, max(config.warmup, 1))
        schedule = ramp if config.warmup else rate
    adam = optax.adamw(schedule, weight_decay=config.weight_decay)
    if config.clip_norm is None:
        return adam
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adam)
