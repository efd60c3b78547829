"""Behaviour cloning: a deterministic policy that repeats the data's actions.

    min  E |pi(s) - a|^2,   pi(s) = tanh(MLP(s)),   mean over batch and dimensions.

BC-All (`bc`) clones all episodes. BC-Safe (`bc_safe`) clones those whose cost is at
most the threshold, with parameters of its own for each of `train.cost_limits`; seeds
and thresholds are lanes of one program. Both are baselines of DSRL (Liu et al. 2023);
sizes are those of its code, OSRL, which does not standardise observations.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sas_jax.config import Many, Number, check
from sas_jax.data import transitions
from sas_jax.data.episodes import Episodes
from sas_jax.data.spec import DataSpec
from sas_jax.envs.tasks import get_task
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig, TrainConfig, seen_columns
from sas_jax.learners import memoryless
from sas_jax.learners.algorithm import Algorithm, only_none
from sas_jax.learners.optimizer import make_optimizer
from sas_jax.models.networks import MLP
from sas_jax.types import Key, Learner, Policy, TrainState, TransitionBatch


@dataclasses.dataclass(frozen=True)
class BCConfig:
    """hidden: widths of the policy's layers. policy_blind: groups of observations that
    it does not see, as in the world model; see `experiment.action_sensors`.
    """

    hidden: tuple[int, ...] = (256, 256)
    policy_blind: tuple[str, ...] = ()

    def __post_init__(self):
        check(self, "model", {"hidden": Many(Number(least=1, whole=True))})


def default_config(task: str, algo: str = "bc") -> ExperimentConfig:
    """OSRL's batch and rate; where the held-out loss of 300 episodes is least."""
    limits = get_task(task).cost_limits if algo == "bc_safe" else ()
    train = TrainConfig(
        num_steps=2000,
        batch_rows=512,
        row_length=1,
        learning_rate=1e-3,
        warmup=0,
        schedule="cosine",
        cost_limits=tuple(float(x) for x in limits),
    )
    return ExperimentConfig(task=task, algo=algo, model=BCConfig(), train=train)


def make_network(config: ExperimentConfig, spec: DataSpec) -> tuple[MLP, Callable]:
    """The network, and pi: (params, standardised `[..., O]`) -> `[..., A]`."""
    net = MLP(config.model.hidden, spec.action_dim)
    seen = seen_columns(config.model.policy_blind, spec) or (True,) * spec.obs_dim

    def pi(params, obs):
        obs = jnp.where(np.array(seen), obs, 0.0)
        return jnp.tanh(net.apply({"params": params}, obs))

    return net, pi


def to_device(
    config: ExperimentConfig, spec: DataSpec, episodes: Episodes, *, is_training: bool
) -> transitions.TransitionData:
    """All steps; UserError where a threshold leaves no episode to train on."""
    least = episodes.cost_returns().min()
    if is_training and (lowest := min(config.train.cost_limits, default=least)) < least:
        raise UserError(
            f"train.cost_limits: {lowest:g}; the cheapest of {episodes.num_episodes} "
            f"training episodes of {episodes.task} costs {least:g}"
        )
    return transitions.to_device(episodes, spec)


def make_learner(config: ExperimentConfig, spec: DataSpec) -> Learner:
    """The learner of one lane: a seed, and a threshold or NaN for all episodes."""
    net, pi = make_network(config, spec)
    optimizer = make_optimizer(config.train)

    def init(key: Key, cost_limit: jax.Array) -> TrainState:
        params_key, train_key = jax.random.split(key)
        params = net.init(params_key, jnp.zeros(spec.obs_dim))["params"]
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            key=train_key,
            params=params,
            opt_state=optimizer.init(params),
            extra={"cost_limit": jnp.asarray(cost_limit, jnp.float32)},
        )

    def sample(data, key: Key, state: TrainState) -> TransitionBatch:
        # Of held-out episodes perhaps none is within the limit: then the cheapest.
        within = transitions.num_steps_within(data, state.extra["cost_limit"])
        count, size = jnp.maximum(within, data.ends[0]), config.train.batch_rows
        return transitions.sample(data, key, batch_size=size, num_steps=count)

    def loss(params, batch: TransitionBatch) -> jax.Array:
        return jnp.mean(jnp.square(pi(params, batch.obs) - batch.action))

    def update(state: TrainState, batch: TransitionBatch):
        value, gradients = jax.value_and_grad(loss)(state.params, batch)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        new = {"params": optax.apply_updates(state.params, updates)}
        state = state.replace(step=state.step + 1, opt_state=opt_state, **new)
        return state, {"loss": value, "gradient_norm": optax.tree.norm(gradients)}

    def validate(state: TrainState, batch: TransitionBatch, _: Key):
        return {"loss": loss(state.params, batch)}

    return Learner(init, sample, update, validate)


def make_policy(
    config: ExperimentConfig, spec: DataSpec, *, variants=("none",), report_limits=None
) -> Policy:
    """The cloned action, without any report; see `Algorithm.make_policy`."""
    only_none(variants)
    _, pi = make_network(config, spec)
    return memoryless.make_policy(spec, lambda known, obs: pi(known["params"], obs))


_BC = Algorithm(
    name="bc",
    config_class=BCConfig,
    default_config=default_config,
    make_learner=make_learner,
    make_policy=make_policy,
    variables_of=lambda state: {"params": state.params},
    to_device=to_device,
    check=memoryless.check,
)
_BC_SAFE = dataclasses.replace(
    _BC,
    name="bc_safe",
    default_config=lambda task: default_config(task, "bc_safe"),
    by_threshold=True,
)
ALGORITHMS = (_BC, _BC_SAFE)
