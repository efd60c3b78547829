"""What Algorithm 1's own signals know, measured layout by layout on a checkpoint.

The questions and their statistics are in `report.signal_report`; here are the numbers
they are made of. Alignments, prompts and episodes have the draws of `evaluate`, so the
prompts are those that its episodes acted with.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax import lyapunov
from sas_jax.algorithm import bounded, cut, run_loop
from sas_jax.alignment import align
from sas_jax.probe import Probe
from sas_jax.recording import make_recorder
from sas_jax.replay import Steps, replay
from sas_jax.rollout import BLOCK
from sas_jax.seam import make_room, split_keys

EPISODES = ("none", "rand", "sas")
PROMPTS = ("rand", "sas")
PART = BLOCK  # layouts measured at a time
FIRST_STEPS = 100  # of an episode, whose cost is looked at by itself


def make_alignments(probe: Probe, repeats: int) -> Callable[..., tuple[Any, dict]]:
    """Builds (variables, seeds `[E]`, obs `[E, O]`) -> prompts, arrays; to be jitted.

    prompts: of `PROMPTS`, `[E, V]`.

    The arrays, one row per layout, N or M imaginations of a loop; NaN or 0 where an
    imagination has an energy that is not finite:
      level: E-hat. peak_first `[N]`, peak_second `[M]`: largest energy.
      time_first, time_second: its step as a share of the horizon, in [0, 1).
      cost_first `[N]`: predicted cost of the imagination.
      score `[M]`: sum of V over the T - 1 steps that have one; halves `[M, 2]`: of the
        first and the last half of these steps.
      repeated `[M, repeats]`: score of imaginations under the m-th candidate's own
        segment as prompt, with the same `repeats` draws for each m.
    """
    model, config, horizon = probe.model, probe.config, probe.horizon
    length = config.prompt_length

    def known(energies):
        valid = jnp.isfinite(energies).all(axis=1)
        clean = jnp.where(valid[:, None], energies, 0.0)
        peak = jnp.where(valid, clean.max(axis=1), jnp.nan)
        time = jnp.where(valid, clean.argmax(axis=1) / horizon, jnp.nan)
        return valid, peak, time

    def conditions(energies, level):
        g = jax.vmap(lyapunov.lyapunov_value, in_axes=(0, None))(energies, level)
        return jax.vmap(lyapunov.condition_v)(g)

    def one(variables, seed, obs):
        key, state = probe.start(variables, seed, obs)
        limits = jnp.full(1, probe.cost_limit)
        found = align(
            model,
            variables,
            key,
            state,
            limits,
            config=config,
            variants=PROMPTS,
            horizon=horizon,
        )
        first, second = found.first, found.second["min"]
        level = found.first_choices["sas"].selection.level
        valid_first, peak_first, time_first = known(first.energies)
        valid, peak_second, time_second = known(second.energies)
        holds = conditions(second.energies, level)
        half = holds.shape[1] // 2
        parts = jnp.stack([holds[:, :half].sum(1), holds[:, -half:].sum(1)], axis=1)

        keys = split_keys(jax.random.fold_in(key, 3), repeats)
        room = make_room(model, state, length)

        def again(index):
            """Scores `[repeats]` under one candidate's segment."""
            peaks = jnp.argmax(second.energies[index])
            alone = lyapunov.Selection(index, peaks, level, level, valid[index])
            choice = bounded(alone, length, horizon)
            steps = cut(second, choice, valid[index], length)
            prompt = model.encode_prompt(variables, steps, valid[index])
            loop = run_loop(model, variables, config, horizon, keys, room, prompt)
            fine = jnp.isfinite(loop.energies).all(axis=1) & valid[index]
            score = conditions(loop.energies, level).sum(axis=1)
            return jnp.where(fine, score, jnp.nan)

        repeated = jax.lax.map(again, jnp.arange(config.num_second))
        any_first = valid_first.any()
        level = jnp.where(any_first, level, jnp.nan)
        usable = valid & any_first
        return found.prompts, {
            "level": level,
            "peak_first": peak_first,
            "time_first": time_first,
            "cost_first": jnp.where(
                valid_first, first.outputs.cost.sum(axis=1), jnp.nan
            ),
            "peak_second": jnp.where(usable, peak_second, jnp.nan),
            "time_second": jnp.where(usable, time_second, jnp.nan),
            "score": jnp.where(usable, holds.sum(axis=1), jnp.nan),
            "halves": jnp.where(usable[:, None], parts, jnp.nan),
            "repeated": jnp.where(any_first, repeated, jnp.nan),
        }

    return jax.vmap(one, in_axes=(None, 0, 0))


def make_shifts(probe: Probe) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Builds (variables, keys, steps, prompts `[B]`) -> shift, scale `[B, T]`.

    shift: mean over the actions of |mu with the prompt - mu with the prompt masked|,
    both means clipped to the box, both with the window that the prompt leaves, along
    the same real steps. scale: the policy's own standard deviation there, masked.
    """

    def run(variables, keys, steps, prompt):
        def means(present):
            given = prompt.replace(is_present=prompt.is_present & present)
            seen = replay(
                probe.model,
                variables,
                keys,
                steps,
                prompt=given,
                window=probe.model.prompt_window,
            )
            return jnp.clip(seen.mean, -1.0, 1.0), jnp.exp(seen.log_std).mean(-1)

        with_prompt, _ = means(True)
        without, scale = means(False)
        return jnp.abs(with_prompt - without).mean(-1), scale

    return run


def tokens_along(rewards, costs, target_return: float, cost_limit: float):
    """Return and cost tokens `[E, T]` of steps with such rewards, costs `[E, T]`."""

    def left(start, values):
        before = np.cumsum(values, axis=1) - values
        return (start - before).astype(np.float32)

    return left(target_return, rewards), left(cost_limit, costs)


def make_measure(
    probe: Probe,
    *,
    repeats: int = 8,
    num_workers: int | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Callable[[np.ndarray, int], dict[str, np.ndarray]]:
    """Builds the measurement of one part for `parts.in_parts`, `BLOCK` layouts at most.

    Besides the arrays of `make_alignments`, for V of `EPISODES` and P of `PROMPTS`:
      cost `[V]`, cost_start `[V]`: realised, of the whole episode and of its first
        `FIRST_STEPS`. shift, scale `[P, T]`: see `make_shifts`, along the episode of
        `none`, NaN after its end. level_acted: E-hat as the episodes report it.
    """
    record = make_recorder(probe, EPISODES, num_workers=num_workers, on_step=on_step)
    alignments = jax.jit(make_alignments(probe, repeats))
    shifts = jax.jit(make_shifts(probe))
    longest = probe.loaded.spec.max_timestep

    def measure(seeds, count):
        run = record(seeds[:count])
        rows = np.minimum(np.arange(len(seeds)), count - 1)
        prompts, found = alignments(
            probe.variables, jnp.asarray(seeds, jnp.uint32), run.obs[0, rows, 0]
        )
        found = {k: np.asarray(v) for k, v in jax.device_get(found).items()}
        steps = _steps_of(probe, run, rows, longest)
        keys = split_keys(probe.key, len(rows))
        inside = np.arange(longest)[None, :] < steps.length[:, None]
        shift, scale = [], []
        for index in range(len(PROMPTS)):
            own = jax.tree.map(lambda x, i=index: x[:, i], prompts)
            pair = shifts(probe.variables, keys, steps, own)
            present = np.asarray(own.is_present)[:, None] & inside
            for kept, values in zip((shift, scale), pair, strict=True):
                kept.append(np.where(present, np.asarray(values), np.nan))
        costs = np.moveaxis(run.cost[:, rows], 0, 1)
        return found | {
            "cost": costs.sum(axis=-1),
            "cost_start": costs[..., :FIRST_STEPS].sum(axis=-1),
            "shift": np.stack(shift, axis=1).astype(np.float32),
            "scale": np.stack(scale, axis=1).astype(np.float32),
            "level_acted": run.level[rows],
        }

    return measure


def _steps_of(probe, run, rows, longest) -> Steps:
    """The episodes of `none`, cut or padded to `longest` steps."""
    none = EPISODES.index("none")
    return_to_go, cost_to_go = tokens_along(
        run.reward[none], run.cost[none], probe.target_return, probe.cost_limit
    )

    def fit(values):
        values = np.asarray(values, np.float32)[rows, :longest]
        short = longest - values.shape[1]
        return np.pad(values, ((0, 0), (0, short)) + ((0, 0),) * (values.ndim - 2))

    return Steps(
        obs=fit(run.obs[none]),
        action=fit(run.action[none]),
        return_to_go=fit(return_to_go),
        cost_to_go=fit(cost_to_go),
        length=np.minimum(run.length[none][rows], longest).astype(np.int32),
    )
