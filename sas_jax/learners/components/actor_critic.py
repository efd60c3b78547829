"""What all actor-critic learners share: groups of parameters and how a step runs.

An algorithm has named groups of parameters (a critic, an actor, ...). Its `losses`
take them one after the other; each sees the groups that were stepped before it:

    def losses(groups, extra, batch, key):
        groups.descend("critic", lambda params: ...)
        groups.descend("actor", lambda params: ...)   # sees the new critic
        return extra, metrics

`make_learner` makes a training step of it, and a validation that steps nothing.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sas_jax.alignment.gate import RiskModel
from sas_jax.config import Many, Number, check
from sas_jax.data import transitions
from sas_jax.data.episodes import Episodes
from sas_jax.data.spec import DataSpec
from sas_jax.envs.tasks import get_task
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig, TrainConfig, seen_columns
from sas_jax.learners import memoryless
from sas_jax.learners.algorithm import Algorithm, only_none
from sas_jax.learners.components import limits, nearest
from sas_jax.learners.components.critics import Ensemble
from sas_jax.learners.components.squashed_gaussian import SquashedActor
from sas_jax.learners.optimizer import make_optimizer
from sas_jax.models.networks import MLP
from sas_jax.types import (
    Key,
    Learner,
    Metrics,
    Params,
    Policy,
    TrainState,
    TransitionBatch,
)


@dataclasses.dataclass(frozen=True)
class ActorCriticConfig:
    """hidden: widths of every network's layers. discount: gamma, of rewards and costs.
    target_rate: share of the parameters that a step gives to the target networks.
    actor_rate: the actor's learning rate; `train.learning_rate` is all others'.
    reward_scale: factor of the rewards. policy_blind: groups of observations that the
    actor does not see (critics do), as in the world model; see
    `experiment.action_sensors`. sees_nearest: every network sees how near the nearest
    object of each lidar is, beside the lidar; see `nearest`.
    """

    hidden: tuple[int, ...] = (256, 256)
    discount: float = 0.99
    target_rate: float = 0.005
    actor_rate: float = 1e-4
    reward_scale: float = 0.1
    policy_blind: tuple[str, ...] = ()
    sees_nearest: bool = False

    def __post_init__(self):
        check(self, "model", self.rules())

    def rules(self) -> dict[str, Any]:
        """One rule a field; those of an algorithm add theirs."""
        return {
            "hidden": Many(Number(least=1, whole=True)),
            "discount": Number(above=0, below=1),
            "target_rate": Number(above=0, most=1),
            "actor_rate": Number(above=0),
            "reward_scale": Number(above=0),
        }


def train_config(task: str = "", **settings: Any) -> TrainConfig:
    """Adam as it is, 100 updates a call.

    task: whose thresholds are trained for; "" for algorithms without a lane for each.
    """
    limits = get_task(task).cost_limits if task else ()
    given = {
        "num_steps": 100_000,
        "batch_rows": 512,
        "row_length": 1,
        "learning_rate": 1e-3,
        "warmup": 0,
        "weight_decay": 0.0,
        "clip_norm": None,
        "chunk": 100,
        "checkpoint_every": 1000,
        "cost_limits": tuple(float(x) for x in limits),
    }
    return TrainConfig(**given | settings)


def check_has_costs(config: ExperimentConfig, episodes: Episodes) -> None:
    """UserError for data without a cost: there would be nothing to be safe from."""
    if not (episodes.costs > 0).any():
        raise UserError(
            f"data of {episodes.task}: none of {episodes.num_steps} steps has a cost; "
            f"expected some, as algo {config.algo!r} learns of them"
        )


def to_device(
    config: ExperimentConfig, spec: DataSpec, episodes: Episodes, *, is_training: bool
) -> transitions.TransitionData:
    """All steps, whatever they cost."""
    del config, is_training
    return transitions.to_device(episodes, spec)


def blindfold(config: ExperimentConfig, spec: DataSpec) -> Callable:
    """Observations `[..., O]` as the policy sees them; spec: the wider one of `nearest`
    where that is asked for. A lidar that it does not see has no nearest object.
    """
    own = spec.obs_dim - nearest.count(config, spec)
    narrow = dataclasses.replace(spec, obs_dim=own)
    seen = seen_columns(config.model.policy_blind, narrow) or (True,) * own
    if own < spec.obs_dim:
        seen += tuple(seen[first] for first, _ in spec.rings)
    return lambda obs: jnp.where(np.array(seen), obs, 0.0)


def fresh(key: Key, spec: DataSpec, **modules: tuple[Any, ...]) -> dict[str, Params]:
    """First parameters of each group: name=(module, "obs", "action", ...), its inputs.

    Inputs have their sizes from `spec`; a number is a size of its own.
    """
    sizes = {"obs": spec.obs_dim, "action": spec.action_dim}
    keys = jax.random.split(key, len(modules))
    return {
        name: module.init(own, *(jnp.zeros((1, sizes.get(x, x))) for x in inputs))[
            "params"
        ]
        for own, (name, (module, *inputs)) in zip(keys, modules.items(), strict=True)
    }


class Groups:
    """The parameters during one step, group by group; see the module."""

    def __init__(
        self,
        params: Mapping[str, Params],
        opt_state: Mapping[str, Any],
        optimizers: Mapping[str, optax.GradientTransformation] | None,
    ):
        """optimizers: of each group; None looks at the losses and steps nothing."""
        self.params, self.opt_state = dict(params), dict(opt_state)
        self._optimizers = optimizers
        self.losses: Metrics = {}
        self._squares: list[jax.Array] = []

    def __getitem__(self, name: str) -> Params:
        return self.params[name]

    def descend(
        self,
        name: str,
        loss: Callable[[Params], jax.Array],
        when: jax.Array | None = None,
    ) -> None:
        """One step of a group down its loss, a function of its parameters alone.

        when: `[]` bool, whether it steps this time; None means that it does.
        """
        if self._optimizers is None:
            self.losses[f"{name}_loss"] = loss(self.params[name])
            return
        value, slope = jax.value_and_grad(loss)(self.params[name])
        self.losses[f"{name}_loss"] = value
        self._squares.append(jnp.square(optax.tree.norm(slope)))
        updates, opt_state = self._optimizers[name].update(
            slope, self.opt_state[name], self.params[name]
        )
        before = self.params[name], self.opt_state[name]
        after = optax.apply_updates(self.params[name], updates), opt_state
        if when is not None:
            after = jax.tree.map(
                lambda new, old: jnp.where(when, new, old), after, before
            )
        self.params[name], self.opt_state[name] = after

    def metrics(self) -> Metrics:
        """Each group's loss, their sum `loss`, and the norm of all gradients."""
        found = self.losses | {"loss": jnp.sum(jnp.stack([*self.losses.values()]))}
        if self._squares:
            found["gradient_norm"] = jnp.sqrt(jnp.sum(jnp.stack(self._squares)))
        return found


def make_learner(
    config: ExperimentConfig,
    init_groups: Callable[[Key, jax.Array], tuple[dict[str, Params], dict[str, Any]]],
    losses: Callable[..., tuple[dict[str, Any], Metrics]],
    sample: Callable[..., Any] | None = None,
    rates: Mapping[str, float] | None = None,
) -> Learner:
    """The learner of one lane.

    Args:
      config: its settings. init_groups: (key, cost limit `[]`) -> groups of parameters,
        and what else a state holds (targets, multipliers).
      losses: (groups, extra, batch, key) -> extra, metrics; see the module.
      sample: as `Learner.sample`; all steps alike unless told otherwise.
      rates: learning rates of groups that have one of their own.
    """
    train = config.train

    own = {"actor": getattr(config.model, "actor_rate", train.learning_rate)}
    own |= dict(rates or {})

    def optimizers(names):
        every = {name: own.get(name, train.learning_rate) for name in names}
        return {
            name: make_optimizer(dataclasses.replace(train, learning_rate=rate))
            for name, rate in every.items()
        }

    def init(key: Key, cost_limit: jax.Array) -> TrainState:
        params_key, train_key = jax.random.split(key)
        params, extra = init_groups(params_key, cost_limit)
        limit = jnp.asarray(cost_limit, jnp.float32)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            key=train_key,
            params=params,
            opt_state={k: x.init(params[k]) for k, x in optimizers(params).items()},
            extra=extra | {"cost_limit": limit},
        )

    def draw(data, key: Key, state: TrainState) -> TransitionBatch:
        del state
        size, steps = config.train.batch_rows, data.ends[-1]
        return transitions.sample(data, key, batch_size=size, num_steps=steps)

    def update(state: TrainState, batch: Any):
        # The losses' stream: the batch was drawn with fold_in(key, 2 * step).
        key = jax.random.fold_in(state.key, 2 * state.step + 1)
        groups = Groups(state.params, state.opt_state, optimizers(state.params))
        extra, metrics = losses(groups, state.extra, batch, key)
        state = state.replace(
            step=state.step + 1,
            params=groups.params,
            opt_state=groups.opt_state,
            extra=state.extra | extra,
        )
        return state, groups.metrics() | metrics

    def validate(state: TrainState, batch: Any, key: Key):
        groups = Groups(state.params, state.opt_state, None)
        _, metrics = losses(groups, state.extra, batch, key)
        return groups.metrics() | metrics

    return Learner(init, sample or draw, update, validate)


def follow(
    targets: Mapping[str, Params], groups: Groups, rate: float | jax.Array
) -> dict[str, Params]:
    """Target networks a step later: (1 - rate) old + rate new (Polyak averages)."""
    return {
        name: optax.incremental_update(groups[name], old, rate)
        for name, old in targets.items()
    }


def variables_of(state: TrainState) -> dict[str, Any]:
    """What acting reads of a training state."""
    return {"params": state.params, "extra": state.extra}


def make_mean_policy(
    config: ExperimentConfig,
    spec: DataSpec,
    *,
    variants: tuple[str, ...] = ("none",),
    report_limits: tuple[float, ...] | None = None,
) -> Policy:
    """tanh of the mean of a `SquashedActor` in the group "actor".

    See `Algorithm.make_policy`.
    """
    del report_limits
    only_none(variants)
    actor = SquashedActor(config.model.hidden, spec.action_dim)
    see = blindfold(config, spec)

    def act(known, obs):
        return actor.apply({"params": known["params"]["actor"]}, see(obs)).mode()

    return memoryless.make_policy(spec, act)


def make_deterministic_policy(
    config: ExperimentConfig,
    spec: DataSpec,
    *,
    variants: tuple[str, ...] = ("none",),
    report_limits: tuple[float, ...] | None = None,
) -> Policy:
    """tanh of an `MLP` in the group "actor". See `Algorithm.make_policy`."""
    del report_limits
    only_none(variants)
    actor = MLP(config.model.hidden, spec.action_dim)
    see = blindfold(config, spec)

    def act(known, obs):
        return jnp.tanh(actor.apply({"params": known["params"]["actor"]}, see(obs)))

    return memoryless.make_policy(spec, act)


def make_risk(config: ExperimentConfig, spec: DataSpec) -> RiskModel:
    """The larger one of the group "cost_critic": a discounted sum of costs.

    Its level is what that sum is where every step costs its share of the threshold.
    """
    critic, discount = Ensemble(config.model.hidden), config.model.discount

    def risk(variables, obs, action):
        params = variables["params"]["cost_critic"]
        return critic.apply({"params": params}, obs, action).max(axis=0)

    def level(variables, cost_limit):
        del variables
        step = limits.per_step_limit(cost_limit, spec.max_timestep)
        return limits.discounted_limit(step, discount)

    return RiskModel(risk, level)


def algorithm(
    name: str,
    config_class: type,
    default_config: Callable[[str], ExperimentConfig],
    make_learner: Callable[[ExperimentConfig, DataSpec], Learner],
    **others: Any,
) -> Algorithm:
    """The registry's entry of an algorithm that learns of costs.

    others: what differs from the rest, by the names of `Algorithm`.
    """
    shared: dict[str, Any] = {
        "make_policy": make_mean_policy,
        "variables_of": variables_of,
        "to_device": to_device,
        "check": memoryless.check,
        "check_data": check_has_costs,
    }
    given = shared | others
    for part, wrap in (
        ("make_policy", nearest.policies),
        ("make_explorer", nearest.of_states),
        ("make_risk", nearest.risks),
    ):
        if given.get(part) is not None:
            given[part] = wrap(given[part])
    return Algorithm(
        name=name,
        config_class=config_class,
        default_config=default_config,
        make_learner=nearest.learners(make_learner),
        **given,
    )
