"""A policy with Algorithm 1 around it, as an object for a simulator's loop."""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from sas_jax.alignment import policy as aligned_policy
from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.gate import RiskModel
from sas_jax.alignment.sequence_model import SequenceModel, window_beside
from sas_jax.errors import UserError
from sas_jax.types import Key, Rows, TimeStep


def check_finite(**values: Any) -> None:
    """UserError names the value, and the place, of the first NaN or infinity."""
    for name, value in values.items():
        value = np.asarray(value, np.float32)
        wrong = np.argwhere(~np.isfinite(value))
        if len(wrong):
            place = f" at {tuple(map(int, wrong[0]))}" if value.ndim else ""
            raise UserError(
                f"{name} is {value[tuple(wrong[0])]}{place}: expected finite numbers"
            )


def _check_seeds(seeds: Any) -> None:
    """UserError for seeds that are no whole numbers of 32 bits."""
    seeds = np.asarray(seeds)
    is_whole = seeds.dtype.kind in "iu"
    if not is_whole or seeds.min(initial=0) < 0 or seeds.max(initial=0) >= 2**32:
        raise UserError(f"seed {seeds}: expected whole numbers in [0, 2**32)")


@contextlib.contextmanager
def _telling_of_callbacks() -> Iterator[None]:
    """What a function of numpy arrays complained of inside a program, in one line."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        found = re.search(r"UserError: (.*)", str(error))
        if found is None:
            raise
        raise UserError(found[1]) from None


class AlignedPolicy:
    """Aligns when episodes begin, then acts, one episode or a batch of them at a time.

        policy = sas_jax.AlignedPolicy(model, variables, config, episode_steps=1000)
        policy.reset(obs, seed=7, target_return=30.0, cost_limit=20.0)
        action = policy.act(obs)
        action = policy.act(obs, reward, cost)  # of the step just made, and so on

    An episode depends on its seed and what it was shown; batches of another size round
    differently. Arrays in and out are numpy's.
    """

    # Of the model, until it has been called.
    _check: Callable[[Any, int], None] | None

    def __init__(
        self,
        model: SequenceModel,
        variables: Any,
        config: SASConfig | None = None,
        *,
        variant: str = "sas",
        episode_steps: int | None = None,
        target_return: float = 0.0,
        cost_limit: float = 0.0,
        max_cost: float = 1.0,
        seed: int = 0,
        risk_model: RiskModel | None = None,
        plan_model: SequenceModel | None = None,
    ) -> None:
        """Builds the programs; they compile at the first episode.

        Args:
          model: any sequence policy that offers the step functions. variables: its
            parameters, handed to them as they are.
          config: settings of Algorithm 1. Those of the model's own (density,
            num_importance, prompt_place, decoder_noise, target_return) are not looked
            at.
          variant: one of `variants.VARIANTS`.
          episode_steps: longest episode; T where config.horizon is 0.
          target_return, cost_limit: tokens at the start, and the threshold d at which
            the invariant set is reported, where `reset` names no others.
          max_cost: C_max, the largest cost of a step.
          seed: base of every draw.
          risk_model: cost critic of the variants that need one.
          plan_model: the model as plans are imagined with it; None means `model`.

        Raises:
          UserError: no horizon or one beyond the episode, an unknown variant, a model
            made for another prompt, or a number that is not finite. Where the model
            names the size of an observation, also functions that return other shapes
            than expected; else `reset` tells of them.
        """
        numbers = {"target_return": target_return, "cost_limit": cost_limit}
        check_finite(**numbers, max_cost=max_cost)
        _check_seeds(seed)
        config = SASConfig() if config is None else config
        horizon = config.horizon or episode_steps
        if not horizon:
            raise UserError(
                "horizon: expected config.horizon or episode_steps to be given"
            )
        if episode_steps and horizon > episode_steps:
            raise UserError(
                f"horizon {horizon}: expected at most the episode's {episode_steps} "
                "steps"
            )
        expected = window_beside(model, config.prompt_steps)
        if model.prompt_window != expected or expected < 1:
            raise UserError(
                f"config: prompts of {config.prompt_steps} steps, but the model keeps "
                f"{model.context - model.prompt_window} of its {model.context} steps "
                "for one; expected the same number"
            )
        policy = aligned_policy.make_policy(
            model,
            config,
            variants=(variant,),
            horizon=horizon,
            target_return=target_return,
            max_cost=max_cost,
            episode_steps=episode_steps,
            risk_model=risk_model,
            plan_model=plan_model,
        )
        self._take(
            policy,
            variables,
            targets=(target_return, cost_limit),
            obs_dim=model.obs_dim,
            key=jax.random.key(seed),
            initial_carry=jax.jit(policy.initial_carry, static_argnames="obs_dim"),
        )
        self._check = model.check
        if model.obs_dim is not None:
            self._look_at_functions(model.obs_dim)

    def _take(
        self,
        policy: Any,
        variables: Any,
        *,
        targets: tuple[float, float],
        obs_dim: int | None,
        key: Key,
        initial_carry: Callable[..., Any],
    ) -> None:
        """Acts with a policy that is there already.

        policy: see `types.Policy`. targets: return and cost where `reset` names none.
        initial_carry: the policy's, jitted, with `obs_dim` as an argument.
        """
        self._policy, self._variables, self._defaults = policy, variables, targets
        self._obs_dim, self._key = obs_dim, key
        self._begin: dict[tuple[int, ...], Any] = {}
        self._initial_carry = initial_carry
        self._act = jax.jit(policy.act, donate_argnums=1)
        self._carry = None
        self._check = None

    def _look_at_functions(self, obs_dim: int) -> None:
        """Once, when the size of an observation is known: do the functions fit?"""
        if self._check is not None:
            self._check(self._variables, obs_dim)
            self._check = None

    def reset(
        self,
        obs: np.ndarray,
        *,
        seed: Any = 0,
        target_return: Any = None,
        cost_limit: Any = None,
    ) -> None:
        """Begins episodes at their first observation: imagines and chooses a prompt.

        Args:
          obs: `[O]`, or `[B, O]` for B episodes.
          seed: of the episode's draws; one number for a batch means seed, seed + 1, ...
          target_return, cost_limit: tokens at the start, a number or `[B]`; None means
            the policy's.

        Raises:
          UserError: shapes or a size of observations that do not fit, a number that is
            not finite, or a seed outside [0, 2**32).
        """
        obs = np.asarray(obs, np.float32)
        if obs.ndim not in (1, 2):
            raise UserError(f"obs of shape {obs.shape}: expected (O,) or (B, O)")
        self._is_single = obs.ndim == 1
        obs = np.atleast_2d(obs)
        count, size = obs.shape
        if self._obs_dim not in (None, size):
            raise UserError(
                f"obs of size {size}: expected {self._obs_dim}, as the model has"
            )
        seeds = np.asarray(seed)
        if seeds.ndim == 0:
            seeds = seeds + np.arange(count)
        _check_seeds(seeds)
        seeds = seeds.astype(np.uint32)
        given = [
            np.asarray(default if value is None else value, np.float32)
            for value, default in zip(
                (target_return, cost_limit), self._defaults, strict=True
            )
        ]
        for name, x in zip(
            ("seed", "target_return", "cost_limit"), (seeds, *given), strict=True
        ):
            if x.shape not in ((), (count,)):
                raise UserError(
                    f"{name} of shape {x.shape}: expected a number or ({count},)"
                )
        check_finite(obs=obs, target_return=given[0], cost_limit=given[1])
        target, limit = (np.broadcast_to(x, (count,)) for x in given)
        rows = Rows(
            cost_limit=limit,
            episode_seed=seeds,
            target_return=target,
        )
        self._look_at_functions(size)
        carry = self._initial_carry(
            self._variables, rows, self._key, obs_dim=obs.shape[1]
        )
        arguments = (self._variables, carry, self._time_step(obs, 0, 0), self._key)
        if obs.shape not in self._begin:
            jitted = jax.jit(self._policy.begin, donate_argnums=1)
            self._begin[obs.shape] = jitted.lower(*arguments).compile()
        started = time.perf_counter()
        with _telling_of_callbacks():
            self._carry = jax.block_until_ready(self._begin[obs.shape](*arguments))
        self._seconds = time.perf_counter() - started
        self._shape, self._is_first = obs.shape, True
        self._obs_dim = size

    def _time_step(
        self, obs: np.ndarray, reward: Any, cost: Any, is_first: bool = True
    ) -> TimeStep:
        count = obs.shape[0]
        reward, cost = (
            np.broadcast_to(np.asarray(x, np.float32), (count,)) for x in (reward, cost)
        )
        return TimeStep(obs, reward, cost, np.full(count, is_first))

    def act(self, obs: np.ndarray, reward: Any = 0.0, cost: Any = 0.0) -> np.ndarray:
        """The next action `[A]`, or `[B, A]`, inside the box [-1, 1].

        Args:
          obs: the present observation, of `reset`'s shape; at first `reset`'s own.
          reward, cost: of the step just made, a number or `[B]`; not looked at in the
            first step.

        Raises:
          UserError: no episode has begun, shapes that do not fit, or a number that is
            not finite, the policy's own action among them.
        """
        if self._carry is None:
            raise UserError("act: no episode has begun; expected reset(obs) first")
        obs = np.asarray(obs, np.float32)
        expected = self._shape[1:] if self._is_single else self._shape
        if obs.shape != expected:
            raise UserError(f"obs of shape {obs.shape}: expected {expected}")
        check_finite(obs=obs, reward=reward, cost=cost)
        now = self._time_step(np.atleast_2d(obs), reward, cost, self._is_first)
        with _telling_of_callbacks():
            action, self._carry = self._act(
                self._variables, self._carry, now, self._key
            )
            action = np.asarray(action)
        # A policy of somebody else's; a simulator would be handed it.
        check_finite(action=action)
        self._is_first = False
        return action[0] if self._is_single else action

    def diagnostics(self) -> dict[str, np.ndarray]:
        """What is known of the episodes so far: see `Diagnostics` and `drift.summary`.

        align_seconds: wall time of the alignment of all of them, compilation left out.

        Raises:
          UserError: no episode has begun.
        """
        if self._carry is None:
            raise UserError("diagnostics: no episode has begun; expected reset(obs)")
        found = jax.device_get(self._policy.diagnostics(self._carry))
        if self._is_single:
            found = {name: x[0] for name, x in found.items()}
        return found | {"align_seconds": np.float64(self._seconds)}
