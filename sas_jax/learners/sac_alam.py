"""SAC under constraints, online: one path from SAC to SAC-ALaM, settings choose.

A soft actor-critic (Haarnoja et al. 2018) with twin critics Q (the smaller counts) and
twin cost critics Q_c (`cost_of_two`; see `components.statewise`). One actor loss:

    E [ ( eta log pi(a | s) - Q(s, a) + P(lambda, Q_c(s, a) - d) ) / (1 + price(s)) ]

    algo            lambda     P                 how lambda moves, x = E_pi Q_c - d
    sac             none       0
    stac            none       0                 (one critic with a spread, see below)
    sac_lag         one        lambda x          lambda <- [lambda + k E x]_0^most
    sac_pid         one        lambda x          controller on E x (Stooke et al. 2020)
    fac             of s       lambda x          ascent on E lambda(s) x(s)  (Ma et al.
                                                 2021, with its d)
    fac_penalty     of s       with penalty mu   as fac
    fac_regression  of s       lambda x          regression to a frozen dual target
    sac_alam        of s       with penalty mu   as fac_regression

SAC-ALaM's paper (Zhang et al. 2026, arXiv 2605.00667) was to be had as an abstract
only. Its two parts are there, penalty and regression. Chosen here: the actor pays the
frozen lambda'. Then a state's price moves by `dual_rate` penalty x an update, the same
x acts on the actor at once with weight `penalty`, and price and penalty are a PI
controller per state: with dual_rate no larger than the rate at which the policy
follows, its linearisation does not oscillate, for any penalty
(docs/concepts/state_wise.md).

Instead of twins, Q may be one critic that also says the standard deviation sigma of its
one-step target, as in STAC (stochastic actor-critic; to be had as an abstract only):

    worth(s, a) = Q(s, a) - beta sigma(s, a)      in targets and for the actor
    y = r + gamma (worth'(s', a') - eta log pi),  (Q, sigma) by Gaussian likelihood of y

so that chance is what makes it careful, and not that two networks disagree. The dropout
that the abstract names beside it is left out.

Costs: no entropy in their target; after a time-out the next state counts; no price
before `price_after` updates, as a random cost critic knows nothing. Of two cost critics
the larger counts. It is in its own target, so whatever the two differ by is added up
over 1 / (1 - gamma_c) steps; where that makes every state look dangerous, their mean
tells states apart (docs/results/online.md).
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sas_jax.alignment.gate import RiskModel
from sas_jax.config import Choice, Many, Number
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners.algorithm import Algorithm
from sas_jax.learners.components import actor_critic as ac
from sas_jax.learners.components import interaction, multipliers, nearest, statewise
from sas_jax.learners.components.critics import (
    Ensemble,
    SpreadCritic,
    spread_loss,
    td_loss,
)
from sas_jax.learners.components.squashed_gaussian import SquashedActor
from sas_jax.types import Learner

# Algorithm -> what prices cost, whether the actor pays the quadratic penalty, and
# whether the multiplier network is fitted to a frozen target.
LADDER = {
    "sac": ("none", False, False),
    "stac": ("none", False, False),
    "sac_lag": ("scalar", False, False),
    "sac_pid": ("pid", False, False),
    "fac": ("state", False, False),
    "fac_penalty": ("state", True, False),
    "fac_regression": ("state", False, True),
    "sac_alam": ("state", True, True),
}


@dataclasses.dataclass(frozen=True)
class SafeSACConfig(interaction.OnlineConfig):
    """critic: of rewards: `twin`, or `spread`, which is careful by beta = pessimism.
    price: what prices cost: none, scalar, pid or state. is_penalised: the actor pays
    the penalty. is_regressed: the multiplier network is fitted to a frozen target.
    limit: d, the largest Q_c that is allowed. cost_discount: gamma_c.
    cost_as: what Q_c is, the probability that there will be a cost (`hit`) or the
    `share` of steps that will cost. cost_of_two: what counts of two cost critics, the
    `largest` or their `mean`.
    penalty: mu. most: largest price. price_after: updates before there is a price.
    multiplier_rate: learning rate of the multiplier network. dual_rate: k of `scalar`;
    the share that a frozen target moves by in an update. pid_gains: of the controller.
    entropy_price: eta at the start. entropy_target: for each action dimension.
    """

    critic: str = "twin"
    pessimism: float = 0.125
    price: str = "state"
    is_penalised: bool = True
    is_regressed: bool = True
    limit: float = 0.1
    cost_discount: float = 0.97
    cost_as: str = "hit"
    cost_of_two: str = "largest"
    penalty: float = 1.0
    most: float = 100.0
    price_after: int = 10_000
    multiplier_rate: float = 3e-4
    dual_rate: float = 0.005
    pid_gains: tuple[float, ...] = (1.0, 0.005, 0.0)
    entropy_price: float = 0.1
    entropy_target: float = -1.0

    def rules(self) -> dict[str, Any]:
        """One rule a field."""
        return super().rules() | {
            "critic": Choice(("twin", "spread")),
            "pessimism": Number(least=0),
            "price": Choice(("none", "scalar", "pid", "state")),
            "limit": Number(least=0, most=1),
            "cost_discount": Number(least=0, below=1),
            "cost_as": Choice(("hit", "share")),
            "cost_of_two": Choice(("largest", "mean")),
            "penalty": Number(above=0),
            "most": Number(above=0),
            "price_after": Number(least=0, whole=True),
            "multiplier_rate": Number(above=0),
            "dual_rate": Number(above=0, most=1),
            "pid_gains": Many(Number(least=0), least=3),
            "entropy_price": Number(above=0),
            "entropy_target": Number(),
        }


def default_config(task: str, algo: str) -> ExperimentConfig:
    """256 x 2, Adam at 3e-4, batches of 256; see docs/concepts/state_wise.md."""
    price, is_penalised, is_regressed = LADDER[algo]
    model = SafeSACConfig(
        critic="spread" if algo == "stac" else "twin",
        price=price,
        is_penalised=is_penalised,
        is_regressed=is_regressed,
    )
    train = ac.train_config(
        num_steps=1_000_000,
        batch_rows=256,
        learning_rate=3e-4,
        clip_norm=40.0,
        chunk=1000,
        checkpoint_every=10_000,
        keep_checkpoints=1,
    )
    return ExperimentConfig(task=task, algo=algo, model=model, train=train)


def check(config: ExperimentConfig) -> None:
    """Raises UserError for a ladder's step under the name of another."""
    interaction.check(config)
    model = config.model
    given = model.price, model.is_penalised, model.is_regressed
    if given != LADDER[config.algo]:
        raise UserError(
            f"model.price, is_penalised, is_regressed: {given}; expected "
            f"{LADDER[config.algo]} with algo {config.algo!r}"
        )
    if config.algo == "stac" and model.critic != "spread":
        raise UserError(
            f"model.critic: {model.critic!r}; expected 'spread' with algo 'stac'"
        )


class _Networks:
    """The networks of one lane, and what the losses ask them."""

    def __init__(self, config: ExperimentConfig, spec: DataSpec):
        model = self.model = config.model
        self.spec, self.see = spec, ac.blindfold(config, spec)
        self.actor = SquashedActor(model.hidden, spec.action_dim)
        self.twins = Ensemble(model.hidden)
        self.critic = (
            self.twins if model.critic == "twin" else SpreadCritic(model.hidden)
        )
        self.multiplier = statewise.MultiplierNetwork(model.hidden)

    def fresh(self, key) -> dict[str, Any]:
        """First parameters, group by group."""
        groups = {
            "critic": (self.critic, "obs", "action"),
            "actor": (self.actor, "obs"),
        }
        if self.model.price != "none":
            groups["cost_critic"] = (self.twins, "obs", "action")
        if self.model.price == "state":
            groups["multiplier"] = (self.multiplier, "obs")
        params = ac.fresh(key, self.spec, **groups)
        price = jnp.float32(math.log(self.model.entropy_price))
        params["entropy"] = {"log_price": price}
        return params

    def draw(self, params, obs, key):
        """Actions of the policy `[B, A]`, their log-densities `[B]`."""
        pi = self.actor.apply({"params": params}, self.see(obs))
        action, u = pi.sample(key, 1)
        return action[0], pi.log_prob(u)[0]

    def worth(self, params, obs, action):
        """A careful value `[B]`: the smaller of two, or the mean less its spread."""
        found = self.critic.apply({"params": params}, obs, action)
        if self.model.critic == "twin":
            return found.min(axis=0)
        mean, std = found
        return mean - self.model.pessimism * std

    def value_loss(self, params, obs, action, target):
        """What the critic of rewards is fitted by."""
        found = self.critic.apply({"params": params}, obs, action)
        if self.model.critic == "twin":
            return td_loss(found, target)
        return spread_loss(*found, target)

    def risks(self, params, obs, action):
        """Both cost critics' values `[2, B]`."""
        return self.twins.apply({"params": params}, obs, action)

    def risk(self, params, obs, action):
        """Q_c `[B]`: what counts of two cost critics."""
        both = self.risks(params, obs, action)
        return both.mean(axis=0) if self.model.cost_of_two == "mean" else both.max(0)

    def price(self, params, extra, obs):
        """lambda `[B]` that the actor pays, a constant."""
        model = self.model
        if model.price != "state":
            return jnp.broadcast_to(extra["multiplier"], obs.shape[:1])
        params = extra["frozen"] if model.is_regressed else params["multiplier"]
        found = self.multiplier.apply({"params": params}, obs)
        return jax.lax.stop_gradient(jnp.minimum(found, model.most))


def initial_extra(model: SafeSACConfig, params: dict[str, Any]) -> dict[str, Any]:
    """What a state holds beside the groups: targets, prices, a count of updates."""
    names = ("critic",) if model.price == "none" else ("critic", "cost_critic")
    extra: dict[str, Any] = {
        "targets": {name: params[name] for name in names},
        "updates": jnp.zeros((), jnp.int32),
    }
    if model.price in ("scalar", "pid"):
        extra["multiplier"] = jnp.zeros(())
    if model.price == "pid":
        extra["pid"] = multipliers.pid_init()
    if model.price == "state" and model.is_regressed:
        extra["frozen"] = params["multiplier"]
    return extra


def make_learner(config: ExperimentConfig, spec: DataSpec) -> Learner:
    """The learner of one training seed."""
    net, model = _Networks(config, spec), config.model

    def init(key, cost_limit):
        del cost_limit
        params = net.fresh(key)
        return params, initial_extra(model, params)

    def losses(groups, extra, batch, key):
        keys = jax.random.split(key)
        _step_critics(net, groups, extra, batch, keys[0])
        is_priced = extra["updates"] >= model.price_after
        # Actor, entropy and multiplier see one draw, so that they speak of one policy.
        found = _step_actor(net, groups, extra, batch.obs, keys[1], is_priced)
        new = {"updates": extra["updates"] + 1}
        if model.price != "none":
            dual, shown = _step_price(net, groups, extra, batch.obs, keys[1], is_priced)
            new, found = new | dual, found | shown
        new["targets"] = ac.follow(extra["targets"], groups, model.target_rate)
        return new, found

    return ac.make_learner(
        config, init, losses, rates={"multiplier": model.multiplier_rate}
    )


def _step_critics(net: _Networks, groups, extra, batch, key) -> None:
    """Both critics, on what the present policy would do next."""
    model, targets = net.model, extra["targets"]
    obs, after = batch.obs, batch.next_obs
    action, density = net.draw(groups["actor"], after, key)
    value = net.worth(targets["critic"], after, action)
    value -= jnp.exp(groups["entropy"]["log_price"]) * density
    target = model.reward_scale * batch.reward
    target += model.discount * batch.bootstrap * value
    groups.descend("critic", lambda p: net.value_loss(p, obs, batch.action, target))
    if model.price == "none":
        return
    is_hit = model.cost_as == "hit"
    target_of = statewise.hitting_target if is_hit else statewise.share_target
    risk = target_of(
        batch.cost,
        model.cost_discount,
        batch.bootstrap,
        net.risk(targets["cost_critic"], after, action),
    )
    groups.descend(
        "cost_critic", lambda p: td_loss(net.risks(p, obs, batch.action), risk)
    )


def _step_actor(net: _Networks, groups, extra, obs, key, is_priced):
    """The actor and the price of its entropy; what there is to show of them."""
    model, eta = net.model, jnp.exp(groups["entropy"]["log_price"])
    penalty = model.penalty if model.is_penalised else 0.0
    has_cost = model.price != "none"
    price = net.price(groups.params, extra, obs) if has_cost else 0.0

    def loss(params):
        action, density = net.draw(params, obs, key)
        worth = net.worth(groups["critic"], obs, action)
        paid = eta * density - worth
        if not has_cost:
            return jnp.mean(paid)
        excess = net.risk(groups["cost_critic"], obs, action) - model.limit
        cost = statewise.augmented(price, excess, penalty)
        paid += jnp.where(is_priced, cost, 0.0)
        # However dear cost becomes somewhere, steps stay as large as without a price.
        dear = jax.lax.stop_gradient(statewise.effective(price, excess, penalty))
        return jnp.mean(paid / (1.0 + jnp.where(is_priced, dear, 0.0)))

    groups.descend("actor", loss)
    _, density = net.draw(groups["actor"], obs, key)
    entropy = -jax.lax.stop_gradient(jnp.mean(density))
    spare = entropy - model.entropy_target * net.spec.action_dim
    groups.descend("entropy", lambda p: p["log_price"] * spare)
    return {"entropy": entropy, "entropy_price": eta}


def _step_price(net: _Networks, groups, extra, obs, key, is_priced):
    """The price of cost after the actor's step; what there is to show of it."""
    model = net.model
    action, _ = net.draw(groups["actor"], obs, key)
    risk = jax.lax.stop_gradient(net.risk(groups["cost_critic"], obs, action))
    excess, new = risk - model.limit, {}
    if model.price == "state":
        _step_network(net, groups, extra, obs, excess, is_priced)
        if model.is_regressed:
            # A share of nothing leaves the target where it is.
            rate = jnp.where(is_priced, model.dual_rate, 0.0)
            new["frozen"] = ac.follow({"multiplier": extra["frozen"]}, groups, rate)[
                "multiplier"
            ]
    else:
        violation = jnp.mean(excess)
        if model.price == "scalar":
            moved = extra["multiplier"] + model.dual_rate * violation
        else:
            pid, moved = multipliers.pid_step(extra["pid"], violation, model.pid_gains)
            new["pid"] = jax.tree.map(
                lambda a, b: jnp.where(is_priced, a, b), pid, extra["pid"]
            )
        moved = jnp.clip(moved, 0.0, model.most)
        new["multiplier"] = jnp.where(is_priced, moved, extra["multiplier"])
    penalty = model.penalty if model.is_penalised else 0.0
    price = net.price(groups.params, extra | new, obs)
    return new, {
        "risk": jnp.mean(risk),
        "over_limit": jnp.mean(risk > model.limit),
        "multiplier": jnp.mean(price),
        "effective": jnp.mean(statewise.effective(price, excess, penalty)),
    }


def _step_network(net: _Networks, groups, extra, obs, excess, is_priced) -> None:
    """The multiplier network, by regression or by dual ascent."""
    model, frozen = net.model, None
    if model.is_regressed:
        frozen = net.multiplier.apply({"params": extra["frozen"]}, obs)

    def loss(params):
        value = net.multiplier.apply({"params": params}, obs)
        if frozen is None:
            return statewise.ascent_loss(value, excess, model.most)
        return statewise.regression_loss(
            value, frozen, excess, model.penalty, model.most
        )

    groups.descend("multiplier", loss, when=is_priced)


def make_explorer(config: ExperimentConfig, spec: DataSpec) -> Callable:
    """See `Algorithm.make_explorer`: the policy's own draws."""
    net = _Networks(config, spec)

    def explore(variables, obs, key):
        return net.draw(variables["params"]["actor"], obs, key)[0]

    return explore


@nearest.signals
def make_signals(config: ExperimentConfig, spec: DataSpec) -> dict[str, Callable]:
    """What a trained state says of danger, by name.

    Functions of (variables, standardised observations `[B, O]`) -> `[B]`: "multiplier",
    the price lambda(s), and "risk", Q_c of the policy's mean action.
    """
    net = _Networks(config, spec)

    def multiplier(variables, obs):
        return net.price(variables["params"], variables["extra"], obs)

    def risk(variables, obs):
        params = variables["params"]
        action = net.actor.apply({"params": params["actor"]}, net.see(obs)).mode()
        return net.risk(params["cost_critic"], obs, action)

    return {"multiplier": multiplier, "risk": risk}


def make_risk(config: ExperimentConfig, spec: DataSpec) -> RiskModel:
    """Q_c(s, a), the discounted probability of a cost; its level is the limit d."""
    net, limit = _Networks(config, spec), config.model.limit

    def risk(variables, obs, action):
        return net.risk(variables["params"]["cost_critic"], obs, action)

    return RiskModel(
        risk, lambda variables, cost_limit: jnp.full_like(cost_limit, limit)
    )


def _algorithm(name: str) -> Algorithm:
    return ac.algorithm(
        name,
        SafeSACConfig,
        functools.partial(default_config, algo=name),
        make_learner,
        make_explorer=make_explorer,
        make_risk=None if LADDER[name][0] == "none" else make_risk,
        check=check,
        check_data=lambda config, episodes: None,
    )


ALGORITHMS = tuple(map(_algorithm, LADDER))
