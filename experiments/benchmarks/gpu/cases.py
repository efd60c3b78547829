"""What the GPU benchmark measures: functions that build a case and describe its runs.

Every `measure_*` compiles, warms up, measures and returns a row. They may raise
anything, out of memory above all; `gpu_run` guards them.
"""

import contextlib
import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import (
    common,
    flops,
    imagination_timing,
    jax_env_timing,
    model_cases,
    planning_timing,
    training_timing,
)
from sas_jax import checkpoint
from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners import sequence

# Mode -> precision of float32 matrix products and dtype of activations. "default" is
# what JAX does when it is not told: TF32 on NVIDIA's cards.
MODES = {
    "fp32": ("highest", "float32"),
    "tf32": ("default", "float32"),
    "bf16": ("default", "bfloat16"),
}


def in_mode(config: ExperimentConfig, mode: str) -> ExperimentConfig:
    """The configuration with the mode's activations."""
    decoder = dataclasses.replace(config.model.decoder, dtype=MODES[mode][1])
    model = dataclasses.replace(config.model, decoder=decoder)
    return dataclasses.replace(config, model=model)


def precision_of(mode: str) -> contextlib.AbstractContextManager:
    """A context in which programs are compiled with the mode's matrix products."""
    return jax.default_matmul_precision(MODES[mode][0])


def wall(case: common.Case, repeats: int) -> tuple[float, dict[str, float]]:
    """Seconds of the first run, with compilation, and the spread of the others."""
    first = case().wall
    return first, common.spread([case().wall for _ in range(repeats)])


def device_bytes() -> int | None:
    """Peak memory of the device so far, all cases; None where it keeps no count."""
    stats = jax.devices()[0].memory_stats()
    return stats.get("peak_bytes_in_use") if stats else None


def measure_peak(mode: str, *, size: int, repeats: int) -> dict:
    """Operations a second in products of `size` (0: the backend's own) squared."""
    precision, dtype = MODES[mode]
    case, work = common.peak_case(dtype, precision=precision, size=size)
    _, seconds = wall(case, repeats)
    return {"seconds": seconds, "flops_per_second": work / seconds["median"]}


def measure_bandwidth(*, megabytes: int, repeats: int) -> dict:
    """Bytes a second of copies of an array that no cache holds, read and written."""
    array = jnp.ones(megabytes * 2**20 // 4)
    add = jax.jit(lambda x: x + 1.0)
    _, seconds = wall(common.timed(lambda: add(array)), repeats)
    return {
        "seconds": seconds,
        "bytes_per_second": 2.0 * array.nbytes / seconds["median"],
    }


def measure_imagination(
    config: ExperimentConfig,
    spec: DataSpec,
    mode: str,
    *,
    count: int,
    horizon: int,
    repeats: int,
    peak: float | None,
    bandwidth: float | None,
) -> dict:
    """Milliseconds of a step of `count` trajectories, and the shares of the peaks.

    peak, bandwidth: operations and bytes a second that were measured; None if not.
    """
    config = in_mode(config, mode)
    with precision_of(mode):
        variables = model_cases.make_variables(config, spec)
        case = imagination_timing.flat_case(
            config,
            spec,
            variables,
            density=config.sas.density,
            count=count,
            horizon=horizon,
        )
        first, seconds = wall(case, repeats)
    parts = flops.imagined_step(
        config,
        spec.obs_dim,
        spec.action_dim,
        density=config.sas.density,
        num_bins=sum(size for _, size in spec.rings),
        num_importance=config.sas.num_importance,
    )
    ring = flops.ring_bytes(config)
    moved = (ring["read"] + ring["written"]) * count
    moved += flops.weight_bytes(config, parts)
    work, a_step = sum(parts.values()) * count, seconds["median"] / horizon
    return {
        "trajectories": count,
        "horizon": horizon,
        "first_run_seconds": first,
        "seconds": seconds,
        "milliseconds_a_step": 1e3 * a_step,
        "steps_per_second": count / a_step,
        "share_of_peak": work / a_step / peak if peak else None,
        "share_of_bandwidth": moved / a_step / bandwidth if bandwidth else None,
        "ring_bytes": ring["held"] * count,
        "device_peak_bytes": device_bytes(),
    }


def measure_align(
    config: ExperimentConfig,
    spec: DataSpec,
    mode: str,
    *,
    episodes: int,
    horizon: int,
    repeats: int,
) -> dict:
    """Seconds of Algorithm 1 (`sas`) for `episodes` episodes at once."""
    with precision_of(mode):
        case, facts = imagination_timing.build_align(
            in_mode(config, mode),
            spec,
            episodes=episodes,
            horizon=horizon,
            variant="sas",
        )
        _, seconds = wall(case, repeats)
    return {
        "episodes": episodes,
        "horizon": horizon,
        "seconds": seconds,
        "seconds_an_episode": seconds["median"] / episodes,
        "device_peak_bytes": device_bytes(),
        **facts,
    }


def _selected(result):
    """Index and first step of both loops' choices, `[4]` int32."""
    first, second = result.first_choices["sas"], result.second_choices["sas"]
    return jnp.stack(
        [
            first.selection.index,
            first.start,
            second.selection.index,
            second.start,
        ]
    )


def measure_selection(
    config: ExperimentConfig,
    spec: DataSpec,
    modes: tuple[str, ...],
    *,
    episodes: int,
    horizon: int,
    path: str,
) -> dict:
    """Share of episodes whose prompt another mode selects as the first of `modes` does.

    path: of a checkpoint, whose first seed is taken; "" makes weights up, which says
    little of a trained model. "first" is the first loop's trajectory, "second" the
    prompt's, "prompt" the prompt's trajectory and place.
    """
    if path:
        loaded = checkpoint.load(path)
        config, spec = loaded.config, loaded.spec
        variables = sequence.variables_of(loaded.state)
        variables = jax.tree.map(lambda x: x[0], variables)
    else:
        variables = model_cases.make_variables(config, spec)
    found = {}
    for mode in modes:
        with precision_of(mode):
            program, arguments = imagination_timing.align_program(
                in_mode(config, mode),
                spec,
                variables,
                episodes=episodes,
                horizon=horizon,
                variant="sas",
                read=_selected,
            )
            found[mode] = np.asarray(program(*arguments))
    base, *others = modes
    same = {mode: found[mode] == found[base] for mode in others}
    return {
        "episodes": episodes,
        "horizon": horizon,
        "checkpoint": path,
        "same": {
            mode: {
                "first": float(equal[:, 0].mean()),
                "second": float(equal[:, 2].mean()),
                "prompt": float(equal[:, 2:].all(axis=1).mean()),
            }
            for mode, equal in same.items()
        },
    }


def measure_planning(
    config: ExperimentConfig,
    spec: DataSpec,
    mode: str,
    *,
    robots: int,
    variant: str,
    plans: int,
) -> dict:
    """Milliseconds of a control step of that many robots, all planning at once.

    variant: "plan", with all candidates imagined, or "none" for the same without plans.
    plans: of a run.
    """
    _, config, _ = planning_timing.cases_of(in_mode(config, mode))[variant]
    every = config.sas.plan.execute
    with precision_of(mode):
        run = planning_timing.make_round(
            config,
            spec,
            model_cases.make_variables(config, spec),
            rows=robots,
            variant=variant,
            steps=plans * every,
        )
        seconds = run()
    mean = float(seconds.mean())
    return {
        "robots": robots,
        "variant": variant,
        "seconds": common.spread(list(seconds)),
        "milliseconds_a_step": 1e3 * mean,
        "slowest_milliseconds": 1e3 * float(seconds.max()),
        "steps_per_second": 1.0 / mean,
        "device_peak_bytes": device_bytes(),
    }


def measure_recording(*, episodes: int, steps: int, repeats: int) -> dict:
    """Environment steps a second of random actions, `episodes` at once."""
    row = jax_env_timing.record_on_device(episodes, steps, repeats)
    del row["case"]
    return {**row, "device_peak_bytes": device_bytes()}


def measure_simulator(*, steps: int) -> dict:
    """The same of the simulator's fast path, one episode in this process."""
    row = jax_env_timing.record_in_simulator(steps)
    del row["case"]
    return row


def measure_worlds(
    config: ExperimentConfig,
    spec: DataSpec,
    mode: str,
    *,
    variant: str,
    episodes: int,
    steps: int,
    repeats: int,
) -> dict:
    """Environment steps a second of whole episodes, alignment, acting and environment
    in one program; `episodes` of PointGoal in the plane at once.
    """
    with precision_of(mode):
        row = jax_env_timing.act_on_device(
            in_mode(config, mode),
            spec,
            variant,
            episodes=episodes,
            steps=steps,
            repeats=repeats,
        )
    del row["case"]  # it has a name here already
    return {**row, "device_peak_bytes": device_bytes()}


def measure_training(
    config: ExperimentConfig,
    mode: str,
    *,
    data: str,
    seeds: int,
    steps: int,
    repeats: int,
    peak: float | None,
) -> dict:
    """Milliseconds of a training step of `seeds` seeds at once on the file `data`."""
    train = dataclasses.replace(config.train, num_seeds=seeds)
    config = dataclasses.replace(in_mode(config, mode), train=train)
    with precision_of(mode):
        started = time.perf_counter()
        case, facts = training_timing.build_steps(config, data, steps)
        built = time.perf_counter() - started
        _, seconds = wall(case, repeats)
    parts = flops.training_step(
        config,
        facts["obs_dim"],
        facts["action_dim"],
        rows=train.batch_rows,
        length=train.row_length,
        num_bins=facts["num_bins"],
    )
    a_step, work = seconds["median"] / steps, seeds * sum(parts.values())
    return {
        "algo": config.algo,
        "seeds": seeds,
        "batch_rows": train.batch_rows,
        "row_length": train.row_length,
        "steps": steps,
        "seconds": seconds,
        "built_seconds": built,
        "milliseconds_a_step": 1e3 * a_step,
        "minutes_of_100k_steps": a_step * 100_000 / 60,
        "share_of_peak": work / a_step / peak if peak else None,
        "device_peak_bytes": device_bytes(),
        **facts,
    }
