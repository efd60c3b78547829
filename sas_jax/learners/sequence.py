"""DT and CDT: the sequence world model, trained on rows of steps, and its policy.

The two differ by the cost token.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from sas_jax.alignment import policy as aligned_policy
from sas_jax.alignment.algorithm1 import Alignment
from sas_jax.alignment.carry import Policy
from sas_jax.alignment.gate import RiskModel
from sas_jax.alignment.recall import Recall
from sas_jax.alignment.return_model import ReturnModel
from sas_jax.alignment.sequence_model import SequenceModel
from sas_jax.alignment.tiles import Tiling
from sas_jax.alignment.variants import (
    VARIANTS,
    check_variants,
    guided_of,
    recalling_of,
)
from sas_jax.asking import network as asking_network
from sas_jax.data import device_rows
from sas_jax.data.augment import AugmentConfig
from sas_jax.data.device_rows import DeviceData
from sas_jax.data.episodes import Episodes
from sas_jax.data.sampling import DataConfig
from sas_jax.data.spec import DataSpec
from sas_jax.envs.tasks import get_task
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig, PolicyConfig, TrainConfig, make_model
from sas_jax.learners import accumulate
from sas_jax.learners.algorithm import Algorithm
from sas_jax.learners.optimizer import make_optimizer
from sas_jax.models import losses, temperature
from sas_jax.models.transformer import DecoderConfig
from sas_jax.models.world_model import WorldModel, WorldModelConfig
from sas_jax.policies import cached, map_outcome
from sas_jax.types import NO_LIMIT, Batch, Key, Learner, TrainState

# Degree of the polynomial through the Pareto frontier in OSRL's settings of the tasks
# where it is not 1.
_FRONTIER_DEGREES = {
    "PointGoal1": 0,
    "PointButton1": 0,
    "PointButton2": 0,
    "PointPush1": 0,
    "PointPush2": 0,
    "CarButton1": 0,
    "CarButton2": 0,
    "CarPush1": 0,
    "CarPush2": 0,
    "CarRun": 0,
    "CarCircle": 4,
    "BallRun": 2,
    "BallCircle": 2,
    "AntCircle": 2,
    "AntRun": 3,
}


def dt_config(task: str) -> ExperimentConfig:
    """DT's settings in the paper (Table 5)."""
    return ExperimentConfig(task=task, algo="dt", model=WorldModelConfig())


def cdt_config(task: str) -> ExperimentConfig:
    """CDT's settings in the paper (Table 5).

    What Table 5 does not say is as in CDT's reference code, OSRL: context, clip,
    entropy target, augmentation and sampling by cost. Its scales of the tokens are not
    (see `spec.from_episodes`).
    """
    return ExperimentConfig(
        task=task,
        algo="cdt",
        model=WorldModelConfig(decoder=DecoderConfig(num_heads=8, context=10)),
        train=TrainConfig(batch_rows=512, row_length=40, clip_norm=0.25),
        policy=PolicyConfig(entropy_target=-float(get_task(task).action_dim)),
        data=DataConfig(
            cost_sampling="linear",
            augment=AugmentConfig(
                augment_percent=0.2, frontier_degree=_FRONTIER_DEGREES.get(task, 1)
            ),
        ),
    )


def check(config: ExperimentConfig) -> None:
    """Raises UserError for settings that do not fit one another."""
    if config.policy.cost_drop > 0 and not config.has_cost_token:
        raise UserError(
            f"policy.cost_drop: {config.policy.cost_drop}; expected 0, as algo "
            f"{config.algo!r} sees no cost to go"
        )
    context = config.model.decoder.context
    room = context - config.sas.prompt_steps
    takes_room = config.sas.prompt_place != "beside"
    if config.policy.prompt_prob > 0 and room < 1 and takes_room:
        raise UserError(
            f"policy.prompt_prob: a prompt of {config.sas.prompt_steps} steps "
            f"leaves no room in a context of {context} steps; "
            "expected a shorter one, or sas.prompt_place=beside"
        )


def check_data(config: ExperimentConfig, episodes: Episodes) -> None:
    """Raises UserError for episodes that the model has no time steps for."""
    longest = int(episodes.lengths.max())
    if longest > config.model.max_timestep:
        raise UserError(
            f"data of {config.task}: an episode has {longest} steps; expected at most "
            f"model.max_timestep {config.model.max_timestep}"
        )


def to_device(
    config: ExperimentConfig, spec: DataSpec, episodes: Episodes, *, is_training: bool
) -> DeviceData:
    """Rows of steps; those of training are drawn as the configuration says."""
    if not is_training:
        return device_rows.to_device(episodes, spec)
    data = device_rows.to_device(episodes, spec, config.data, config.train.seed)
    return data.replace(prompting=config.prompting())


def without_limits(batch: Batch, key: Key, share: float) -> Batch:
    """The batch, a share of its rows with no limit on their cost (`NO_LIMIT`).

    Args:
      key: whose stream 1 is consumed; the rows themselves are drawn with the key's own.
    """
    if share == 0:
        return batch
    rows = batch.is_valid.shape[0]
    is_hidden = jax.random.bernoulli(jax.random.fold_in(key, 1), share, (rows, 1))
    prompt = batch.prompt
    if prompt is not None:
        hidden = jnp.where(is_hidden, NO_LIMIT, prompt.cost_to_go)
        prompt = prompt.replace(cost_to_go=hidden)
    hidden = jnp.where(is_hidden, NO_LIMIT, batch.cost_to_go)
    return batch.replace(cost_to_go=hidden, prompt=prompt)


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


def make_sequence_model(config: ExperimentConfig, spec: DataSpec) -> SequenceModel:
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


def make_plan_model(config: ExperimentConfig, spec: DataSpec) -> SequenceModel:
    """The same model, its density that of the data's states: where plans may go."""
    sas = dataclasses.replace(
        config.sas, density="marginal", num_importance=config.sas.plan.num_importance
    )
    return make_sequence_model(dataclasses.replace(config, sas=sas), spec)


def make_risk_model() -> RiskModel:
    """The cost critic in `variables["critic"]`: a `Critic`, or a `LearntRisk`."""
    return RiskModel(
        risk=lambda variables, obs, action: variables["critic"].risk(obs, action),
        level=lambda variables, limit: variables["critic"].level(limit),
        value=lambda variables, obs, action: variables["critic"].value(obs, action),
    )


def make_support_model() -> RiskModel:
    """How far off the data a step lies, of the model in `variables["support"]`."""
    return RiskModel(
        risk=lambda variables, obs, action: variables["support"].score(obs, action),
        level=lambda variables, limit: jnp.full_like(limit, variables["support"].level),
    )


def make_recall(config: ExperimentConfig, spec: DataSpec) -> Recall:
    """A map of what an episode has seen, judged by the model's own cost head.

    Raises:
      UserError: a task without the sensors that it takes.
    """
    model = make_model(config, spec)

    def cost_of(variables, states):
        params = {"params": variables["params"]}
        return jax.nn.sigmoid(model.apply(params, states, method="cost_logit"))

    return map_outcome.make(get_task(config.task), spec.standardised, cost_of)


def make_return_model() -> ReturnModel:
    """The return to ask for, of the network in `variables["asking"]`."""
    return ReturnModel(
        token=lambda variables, *seen: asking_network.token(variables["asking"], *seen)
    )


def horizon_of(config: ExperimentConfig, spec: DataSpec) -> int:
    """T of imagination, with 0 resolved to the longest episode of the data."""
    return config.sas.horizon or spec.max_timestep


class UnseenPromptWarning(UserWarning):
    """Variants differ by what the policy does not see."""


def _warn_unseen(config: ExperimentConfig, variants: tuple[str, ...]) -> None:
    """Names the variants that act as if they had no prompt and no shorter window."""
    if config.model.policy_history:
        return
    known = check_variants(variants)
    copies = [v for v in known if VARIANTS[v].has_prompt or v == "short"]
    if copies:
        warnings.warn(
            f"variants {', '.join(copies)}: with model.policy_history=false neither a "
            "prompt nor the history reaches the policy; they act as without a prompt",
            UnseenPromptWarning,
            stacklevel=3,
        )


def make_policy(
    config: ExperimentConfig,
    spec: DataSpec,
    *,
    variants: tuple[str, ...],
    report_limits: tuple[float, ...] | None = None,
    tiling: Tiling | None = None,
    keep: Callable[[Alignment], dict[str, jax.Array]] | None = None,
    keeps_candidates: bool = False,
    plan_model: SequenceModel | None = None,
) -> Policy:
    """The aligned policy under the configuration's settings; see `alignment.policy`.

    Variants that need a cost critic find it in `variables["critic"]`, those that learnt
    which return to ask for in `variables["asking"]` (`asking.network.Asking`), those
    that keep to the data in `variables["support"]` (`support.model.Support`). Its
    `initial_carry` is that of `types.Policy`, and it has an `align_episode` besides.
    plan_model: the model that plans are imagined with; None means `make_plan_model`'s.

    Warns:
      UnseenPromptWarning: prompted variants of a policy that sees no prompt.

    Raises:
      UserError: as `alignment.policy.make_policy`; a guided variant of a policy that
        knows nothing but limits.
    """
    _warn_unseen(config, variants)
    guided = guided_of(variants)
    if guided is not None and config.policy.cost_drop == 0:
        raise UserError(
            f"variants: {guided} needs a policy that knows what is done without a "
            "limit; expected a CDT trained with policy.cost_drop above 0"
        )
    policy = aligned_policy.make_policy(
        make_sequence_model(config, spec),
        config.sas,
        variants=variants,
        horizon=horizon_of(config, spec),
        target_return=spec.target_return,
        max_cost=get_task(config.task).max_step_cost,
        report_limits=report_limits,
        episode_steps=spec.max_timestep,
        risk_model=make_risk_model(),
        tiling=tiling,
        keep=keep,
        plan_model=plan_model or make_plan_model(config, spec),
        keeps_candidates=keeps_candidates,
        return_model=make_return_model(),
        support_model=make_support_model(),
        recall=make_recall(config, spec) if recalling_of(variants) else None,
    )
    start = functools.partial(policy.initial_carry, obs_dim=spec.obs_dim)
    return policy._replace(initial_carry=start)


def make_learner(config: ExperimentConfig, spec: DataSpec) -> Learner:
    """The world model and its policy, trained on rows of steps."""
    model, train = make_model(config, spec), config.train
    optimizer = make_optimizer(train)

    def init(key: Key, cost_limit: jax.Array | None = None) -> TrainState:
        del cost_limit
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

    def sample(data: DeviceData, key: Key, state: TrainState) -> Batch:
        del state
        batch = device_rows.sample(
            data,
            key,
            batch_rows=train.batch_rows,
            row_length=train.row_length,
            prompting=data.prompting,
        )
        return without_limits(batch, key, config.policy.cost_drop)

    def update(state: TrainState, batch: Batch):
        # The loss's stream: the batch itself was drawn with fold_in(key, 2 * step).
        key = jax.random.fold_in(state.key, 2 * state.step + 1)
        loss = functools.partial(
            losses.loss,
            accumulate.in_parts(model, train.accumulate),
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

    def validate(state: TrainState, batch: Batch, key: Key):
        _, (_, metrics) = losses.loss(
            model,
            state.params,
            variables_of(state)["variances"],
            batch,
            key,
            state.step,
            train=False,
            temperature=temperature_of(state),
        )
        return metrics

    return Learner(init, sample, update, validate)


_DT = Algorithm(
    name="dt",
    config_class=WorldModelConfig,
    default_config=dt_config,
    make_learner=make_learner,
    make_policy=make_policy,
    variables_of=variables_of,
    to_device=to_device,
    check=check,
    check_data=check_data,
    context=lambda config: config.model.decoder.context,
    check_variants=check_variants,
    default_variants=("none", "rand", "sas"),
    groups=("sas", "policy", "data"),
    has_world_model=True,
    has_return_token=True,
)
_CDT = dataclasses.replace(
    _DT, name="cdt", default_config=cdt_config, sees_cost_limit=True
)
ALGORITHMS = (_DT, _CDT)
