"""Timings of imagination over P trajectories and of Algorithm 1 over episodes."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks import child, common, flops, model_cases
from sas_jax.alignment.algorithm1 import Alignment, align
from sas_jax.alignment.imagination import imagine
from sas_jax.alignment.sequence_model import ModelState, SequenceModel
from sas_jax.data.spec import DataSpec
from sas_jax.envs.tasks import get_task
from sas_jax.experiment import ExperimentConfig
from sas_jax.gaussian import split_keys
from sas_jax.learners import sequence

DENSITIES = ("transition", "marginal", "none")


def _model(config, spec, density):
    """The step functions; "none" leaves the density to XLA as dead code."""
    kind = "transition" if density == "none" else density
    sas = dataclasses.replace(config.sas, density=kind)
    model = sequence.make_sequence_model(dataclasses.replace(config, sas=sas), spec)
    if density != "none":
        return model

    def step(variables, keys, state, prompt):
        output, after = model.step(variables, keys, state, prompt)
        return output, after.replace(log_density=state.log_density)

    return model._replace(step=step)


def start(
    model: SequenceModel, variables: dict, keys: jax.Array, obs: jax.Array
) -> ModelState:
    """P trajectories at their first observation `[P, O]`; keys `[P]`."""
    count = obs.shape[0]
    return model.start(
        variables,
        keys,
        obs,
        jnp.full(count, 20.0),
        jnp.full(count, 20.0),
        model.context,
    )


def flat_case(
    config: ExperimentConfig,
    spec: DataSpec,
    variables: dict,
    *,
    density: str,
    count: int,
    horizon: int,
) -> common.Case:
    """`count` trajectories imagined for `horizon` steps, no prompt, in one jit."""
    model = _model(config, spec, density)

    @jax.jit
    def run(variables, key, obs):
        keys = split_keys(key, count)
        state = start(model, variables, keys, obs)
        outputs, _ = imagine(model.step, variables, keys, state, horizon=horizon)
        return outputs

    obs = model_cases.make_observations(spec, count)
    return common.timed(lambda: run(variables, jax.random.key(1), obs))


def xla_step_flops(
    config: ExperimentConfig,
    spec: DataSpec,
    variables: dict,
    *,
    density: str,
    count: int,
) -> float:
    """XLA's count for one compiled step, per trajectory."""
    model = _model(config, spec, density)
    keys = split_keys(jax.random.key(1), count)
    obs = model_cases.make_observations(spec, count)
    state = jax.eval_shape(functools.partial(start, model), variables, keys, obs)
    step = jax.jit(lambda *arguments: model.step(*arguments, None))
    return common.xla_flops(step.lower(variables, keys, state).compile()) / count


def _outcome(result):
    """What acting needs of Algorithm 1."""
    return result.prompts, result.diagnostics


def align_program(
    config: ExperimentConfig,
    spec: DataSpec,
    variables: dict,
    *,
    episodes: int,
    horizon: int,
    variant: str,
    read: Callable[[Alignment], Any] = _outcome,
) -> tuple[Callable[..., Any], tuple]:
    """Algorithm 1 for `episodes` episodes in one jit, and its arguments.

    read: what the program returns of an episode's `Alignment`.
    """
    model = sequence.make_sequence_model(config, spec)

    def one(variables, key, obs):
        start_key, align_key = jax.random.split(key)
        result = align(
            model,
            variables,
            align_key,
            start(model, variables, start_key[None], obs[None]),
            jnp.full(1, 20.0),
            config=config.sas,
            variants=(variant,),
            horizon=horizon,
            max_cost=get_task(config.task).max_step_cost,
        )
        return read(result)

    arguments = (
        variables,
        jax.random.split(jax.random.key(2), episodes),
        model_cases.make_observations(spec, episodes),
    )
    return jax.jit(jax.vmap(one, in_axes=(None, 0, 0))), arguments


def build_align(
    config: ExperimentConfig,
    spec: DataSpec,
    *,
    episodes: int,
    horizon: int,
    variant: str,
) -> tuple[common.Case, dict]:
    """Algorithm 1 for `episodes` episodes, compiled; for `child.Child`."""
    program, arguments = align_program(
        config,
        spec,
        model_cases.make_variables(config, spec),
        episodes=episodes,
        horizon=horizon,
        variant=variant,
    )
    started = time.perf_counter()
    run = program.lower(*arguments).compile()
    facts = {"compile_seconds": time.perf_counter() - started}
    facts["compiled_bytes"] = child.peak_bytes()
    memory = run.memory_analysis()
    if memory is not None:
        facts |= {
            "temporary_bytes": memory.temp_size_in_bytes,
            "argument_bytes": memory.argument_size_in_bytes,
            "output_bytes": memory.output_size_in_bytes,
        }
    return common.timed(lambda: run(*arguments)), facts


def measure_flat(
    config: ExperimentConfig,
    spec: DataSpec,
    *,
    densities: list[str],
    sizes: list[int],
    horizon: int,
    repeats: int,
    clock: str,
) -> list[dict]:
    """Rows of flat imagination, every density with every size."""
    variables = model_cases.make_variables(config, spec)
    cases, work = common.references()
    shapes = {
        f"{density} P={count}": {"density": density, "count": count}
        for density in densities
        for count in sizes
    }
    for name, shape in shapes.items():
        cases[name] = flat_case(config, spec, variables, horizon=horizon, **shape)
    samples = common.interleave(cases, repeats, "imagination")
    rows = [
        _describe(config, spec, samples, name, work, clock, horizon=horizon, **shape)
        for name, shape in shapes.items()
    ]
    found = {
        density: xla_step_flops(
            config, spec, variables, density=density, count=max(sizes)
        )
        for density in densities
    }
    return [row | {"xla_flops": found[row["density"]]} for row in rows]


def measure_align(
    config: ExperimentConfig,
    spec: DataSpec,
    *,
    episodes: list[int],
    horizon: int,
    repeats: int,
    clock: str,
) -> tuple[list[dict], list[dict]]:
    """Rows of both loops of Algorithm 1, and what a call takes, per batch of episodes.

    The second loop is `sas` less `u`, which is the first loop alone, round by round.
    """
    if not episodes:
        return [], []
    cases, work = common.references()
    children = {}
    for count in episodes:
        for variant in ("u", "sas"):
            children[f"{variant} E={count}"] = child.Child(
                build_align,
                config=config,
                spec=spec,
                episodes=count,
                horizon=horizon,
                variant=variant,
            )
    samples = common.interleave(cases | children, repeats, "Algorithm 1")
    sas, rows, calls = config.sas, [], []
    for count in episodes:
        first, both = samples[f"u E={count}"], samples[f"sas E={count}"]
        loops = {
            f"Algorithm 1 E={count}, loop 1": (first, sas.num_first, 0),
            f"Algorithm 1 E={count}, loop 2": (
                [
                    common.Sample(
                        *(max(b - a, 1e-9) for a, b in zip(x, y, strict=True))
                    )
                    for x, y in zip(first, both, strict=True)
                ],
                sas.num_second,
                sas.prompt_length,
            ),
        }
        for name, (runs, candidates, prompt_steps) in loops.items():
            rows.append(
                _describe(
                    config,
                    spec,
                    samples | {name: runs},
                    name,
                    work,
                    clock,
                    count=count * candidates,
                    horizon=horizon,
                    density=sas.density,
                    prompt_steps=prompt_steps,
                )
            )
        process = children[f"sas E={count}"]
        calls.append(
            {
                "episodes": count,
                "num_first": sas.num_first,
                "num_second": sas.num_second,
                "horizon": horizon,
                "seconds": common.seconds(both),
                "base_bytes": process.base_bytes,
                "peak_bytes": process.peak_bytes(),
                **process.facts,
            }
        )
    for process in children.values():
        process.close()
    return rows, calls


def _describe(
    config,
    spec,
    samples,
    name,
    work,
    clock,
    *,
    count,
    horizon,
    density,
    prompt_steps=0,
):
    """A row: speed, and the shares of its time that the cost model explains."""
    runs, steps = samples[name], count * horizon
    parts = flops.imagined_step(
        config,
        spec.obs_dim,
        spec.action_dim,
        density=density,
        num_bins=sum(size for _, size in spec.rings),
        num_importance=config.sas.num_importance,
        prompt_steps=prompt_steps,
    )
    total, ring = sum(parts.values()), flops.ring_bytes(config)
    moved = ring["read"] + ring["written"]
    moved += flops.weight_bytes(config, parts) / count
    compute = common.ratio(samples["peak"], runs, clock) * total * steps / work["peak"]
    memory = common.ratio(samples["bandwidth"], runs, clock)
    memory *= moved * steps / work["bandwidth"]
    shares = {"compute": compute, "memory": memory, "rest": 1.0 - compute - memory}
    return {
        "case": name,
        "trajectories": count,
        "horizon": horizon,
        "density": density,
        "seconds": common.seconds(runs),
        "steps_per_second": common.spread([steps / getattr(x, clock) for x in runs]),
        "wall_steps_per_second": steps / statistics.median(x.wall for x in runs),
        "flops": parts,
        "model_flops": total,
        "ring_bytes": ring,
        "bytes_per_step": moved,
        "shares": shares,
        "bound": max(shares, key=shares.get),
    }
