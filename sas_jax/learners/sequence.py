"""DT and CDT: the sequence world model as a `Learner`.

The two differ by the cost token, which is a field of the model's configuration.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from sas_jax.alignment import policy as aligned_policy
from sas_jax.alignment.algorithm1 import Alignment
from sas_jax.alignment.carry import Policy
from sas_jax.alignment.gate import RiskModel
from sas_jax.alignment.tiles import Tiling
from sas_jax.critic import network as critic_network
from sas_jax.data.spec import DataSpec
from sas_jax.envs.tasks import get_task
from sas_jax.experiment import ExperimentConfig, TrainConfig, make_model
from sas_jax.learners import accumulate
from sas_jax.models import losses, temperature
from sas_jax.models.world_model import WorldModel
from sas_jax.policies import cached
from sas_jax.types import Batch, Key, Learner, TrainState


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


def _init_params(model: WorldModel, key: Key):
    """Parameters from a batch of zeros."""
    zeros = Batch(
        obs=jnp.zeros((1, 2, model.obs_dim)),
        action=jnp.zeros((1, 1, model.action_dim)),
        return_to_go=jnp.zeros((1, 2)),
        cost_to_go=jnp.zeros((1, 2)),
        cost=jnp.zeros((1, 1)),
        timestep=jnp.zeros((1, 1), jnp.int32),
        is_valid=jnp.ones((1, 1), bool),
    )
    noise = losses.draw_noise(model, zeros, key)
    return model.init(key, zeros, noise, False, method="outputs")["params"]


def variables_of(state: TrainState) -> dict:
    """What acting and imagining read of a training state."""
    variances = {k: v for k, v in state.extra.items() if k != "temperature"}
    return {"params": state.params, "variances": variances}


def temperature_of(state: TrainState) -> jax.Array | None:
    """Weight of the entropy in the action loss; None without an entropy target."""
    own = state.extra.get("temperature")
    return None if own is None else own.value


def make_sequence_model(
    config: ExperimentConfig, spec: DataSpec
) -> cached.SequenceModel:
    """The step functions of a trained model under the alignment's settings."""
    return cached.make(
        make_model(config, spec),
        spec,
        prompt_length=config.sas.prompt_steps,
        prompt_place=config.sas.prompt_place,
        density=config.sas.density,
        num_importance=config.sas.num_importance,
        decoder_noise=config.sas.decoder_noise,
    )


def make_risk_model() -> RiskModel:
    """The cost critic in `variables["critic"]`."""
    return RiskModel(
        risk=lambda variables, obs, action: critic_network.risk(
            variables["critic"], obs, action
        ),
        level=lambda variables, limit: critic_network.gate_level(
            variables["critic"], limit
        ),
    )


def horizon_of(config: ExperimentConfig, spec: DataSpec) -> int:
    """T of imagination, with 0 resolved to the longest episode of the data."""
    return config.sas.horizon or spec.max_timestep


def make_policy(
    config: ExperimentConfig,
    spec: DataSpec,
    *,
    variants: tuple[str, ...],
    report_limits: tuple[float, ...] | None = None,
    tiling: Tiling | None = None,
    keep: Callable[[Alignment], dict[str, jax.Array]] | None = None,
) -> Policy:
    """The aligned policy under the configuration's settings; see `sas.make_policy`.

    Variants that need a cost critic find it in `variables["critic"]`.
    """
    target = config.sas.target_return
    return aligned_policy.make_policy(
        make_sequence_model(config, spec),
        config.sas,
        variants=variants,
        horizon=horizon_of(config, spec),
        target_return=spec.target_return if target is None else target,
        max_cost=get_task(config.task).max_step_cost,
        report_limits=report_limits,
        episode_steps=spec.max_timestep,
        risk_model=make_risk_model(),
        tiling=tiling,
        keep=keep,
    )


def make(
    config: ExperimentConfig,
    spec: DataSpec,
    *,
    variants: tuple[str, ...] = ("none",),
    report_limits: tuple[float, ...] | None = None,
    tiling: Tiling | None = None,
    keep: Callable[[Alignment], dict[str, jax.Array]] | None = None,
) -> Learner:
    """Builds the learner; see `sas.make_policy` for what is no configuration."""
    model = make_model(config, spec)
    optimizer = make_optimizer(config.train)

    def init(key: Key) -> TrainState:
        params_key, train_key = jax.random.split(key)
        params = _init_params(model, params_key)
        extra = losses.initial_variances(spec.obs_dim)
        if config.policy.entropy_target is not None:
            extra["temperature"] = temperature.initial(config.policy.temperature)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            key=train_key,
            params=params,
            opt_state=optimizer.init(params),
            extra=extra,
        )

    def update(state: TrainState, batch: Batch):
        # The loss's stream: the batch itself was drawn with fold_in(key, 2 * step).
        key = jax.random.fold_in(state.key, 2 * state.step + 1)
        loss = functools.partial(
            losses.loss,
            accumulate.in_parts(model, config.train.accumulate),
            temperature=temperature_of(state),
        )
        gradient = jax.value_and_grad(loss, has_aux=True)
        (_, (extra, metrics)), gradients = gradient(
            state.params, variables_of(state)["variances"], batch, key, state.step
        )
        if "temperature" in state.extra:
            extra = extra | {
                "temperature": temperature.update(
                    state.extra["temperature"],
                    metrics["entropy"],
                    target=config.policy.entropy_target,
                    rate=config.policy.temperature_rate,
                )
            }
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        state = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            opt_state=opt_state,
            extra=extra,
        )
        return state, metrics

    policy = make_policy(
        config,
        spec,
        variants=variants,
        report_limits=report_limits,
        tiling=tiling,
        keep=keep,
    )
    return Learner(
        init=init,
        update=update,
        initial_carry=functools.partial(policy.initial_carry, obs_dim=spec.obs_dim),
        begin=policy.begin,
        act=policy.act,
        diagnostics=policy.diagnostics,
        narrow=policy.narrow,
        num_devices=1 if tiling is None else tiling.num_devices,
    )
