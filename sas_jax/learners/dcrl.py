"""DCRL: SAC whose reward has a price where too much of the policy's cost lies.

Density constrained reinforcement learning (Qin et al. 2021) bounds where a policy is
found, state by state: rho_pi(s) <= rho_max(s). Its multipliers are functions of the
state, they rise where the bound is broken, and they are taken off the reward:

    r'        = r - sigma(s)
    sigma(s) <- [ sigma(s) + alpha (rho_pi(s) - rho_max(s)) ]_+

Where only costly states are to be avoided, what is bounded is the density of costs.
Continuous states fall into M cells here, softly, around states of the buffer:

    w_j(s)    = softmax_j( -|s - z_j|^2 / (2 h^2 O) ),  O dimensions
    rho_j     = E w_j(s) c               over the buffer's steps, a running mean
    r'        = r - c sum_j w_j(s) sigma_j
    sigma_j  <- [ sigma_j + k (M rho_j - d) ]  cut to 0 and `most`

With every cell at its share d / M the mean cost of a step is d. One cell is SAC-Lag on
the mean cost of a step. The paper asks on-policy rollouts for its density; here it is
the buffer's, so that a small `capacity` is closer to it. Its lower bounds, for states
that are to be visited, are left out. How the SAS paper, whose Table 2 has a column of
it, trained it on recorded data is not said; this one acts while it learns.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sas_jax.config import Number
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners import sac_alam
from sas_jax.learners.components import actor_critic as ac
from sas_jax.learners.components import interaction
from sas_jax.types import Learner, TrainState, TransitionBatch


@dataclasses.dataclass(frozen=True)
class DCRLConfig(sac_alam.SafeSACConfig):
    """cells: M. width: h, in standard deviations of a dimension. limit: d, mean cost of
    a step. dual_rate: k. density_rate: share of rho that a batch makes.
    """

    price: str = "none"
    is_penalised: bool = False
    is_regressed: bool = False
    cells: int = 64
    width: float = 0.3
    limit: float = 0.001
    dual_rate: float = 0.01
    density_rate: float = 0.01

    def rules(self) -> dict[str, Any]:
        """One rule a field."""
        return super().rules() | {
            "cells": Number(least=1, whole=True),
            "width": Number(above=0),
            "density_rate": Number(above=0, most=1),
        }


def default_config(task: str) -> ExperimentConfig:
    """SAC's, as the ladder has it."""
    config = sac_alam.default_config(task, "sac")
    return dataclasses.replace(config, algo="dcrl", model=DCRLConfig())


def check(config: ExperimentConfig) -> None:
    """Raises UserError for a batch that is smaller than the number of cells."""
    interaction.check(config)
    if config.model.cells > config.train.batch_rows:
        raise UserError(
            f"model.cells: {config.model.cells}; expected at most train.batch_rows "
            f"{config.train.batch_rows}, from which they are drawn"
        )


def shares(obs: jax.Array, centres: jax.Array, width: float) -> jax.Array:
    """w `[B, M]` of observations `[B, O]`; a row sums to 1."""
    size = obs.shape[-1]
    away = jnp.sum(jnp.square(obs[:, None] - centres[None]), axis=-1)
    return jax.nn.softmax(-0.5 * away / (width**2 * size), axis=-1)


def make_learner(config: ExperimentConfig, spec: DataSpec) -> Learner:
    """The learner of one training seed: the ladder's SAC on priced rewards."""
    model = config.model
    sac = sac_alam.make_learner(config, spec)

    def init(key, cost_limit) -> TrainState:
        state = sac.init(key, cost_limit)
        zeros = jnp.zeros(model.cells)
        own = {
            "centres": jnp.zeros((model.cells, spec.obs_dim)),
            "density": zeros,
            "sigma": zeros,
        }
        return state.replace(extra=state.extra | own)

    def priced(extra, batch: TransitionBatch) -> tuple[TransitionBatch, jax.Array]:
        """The batch with r', and w."""
        own = shares(batch.obs, extra["centres"], model.width)
        paid = batch.cost * (own @ extra["sigma"])
        return batch.replace(reward=batch.reward - paid), own

    def update(state: TrainState, batch: TransitionBatch):
        extra = state.extra
        # Cells are drawn anew until prices begin: by then the buffer is a policy's.
        is_priced = extra["updates"] >= model.price_after
        centres = jnp.where(is_priced, extra["centres"], batch.obs[: model.cells])
        extra = extra | {"centres": centres}
        seen, own = priced(extra, batch)
        state, metrics = sac.update(state.replace(extra=extra), seen)
        found = (own * batch.cost[:, None]).mean(axis=0)
        rate = jnp.where(is_priced, model.density_rate, 1.0)
        density = (1 - rate) * extra["density"] + rate * found
        moved = extra["sigma"] + model.dual_rate * (model.cells * density - model.limit)
        moved = jnp.clip(moved, 0.0, model.most)
        sigma = jnp.where(is_priced, moved, extra["sigma"])
        new = {"density": density, "sigma": sigma}
        shown = {"multiplier": jnp.mean(own @ sigma), "cost": jnp.mean(batch.cost)}
        return state.replace(extra=state.extra | new), metrics | shown

    def validate(state: TrainState, batch: TransitionBatch, key):
        return sac.validate(state, priced(state.extra, batch)[0], key)

    return Learner(init, sac.sample, update, validate)


ALGORITHMS = (
    ac.algorithm(
        "dcrl",
        DCRLConfig,
        default_config,
        make_learner,
        make_explorer=sac_alam.make_explorer,
        check=check,
        check_data=lambda config, episodes: None,
    ),
)
