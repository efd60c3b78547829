"""Timings and peak memory of training; every case in a process of its own."""

import dataclasses
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.benchmarks import child, common, flops, model_cases
from sas_jax import learners
from sas_jax.data import dsrl
from sas_jax.data import spec as spec_lib
from sas_jax.experiment import ExperimentConfig
from sas_jax.training import fit as training_fit


def build_steps(
    config: ExperimentConfig, data: str, steps: int
) -> tuple[common.Case, dict]:
    """`steps` training steps in one call on the file `data`; for `child.Child`."""
    training, _ = dsrl.load(data).split(config.train.held_out, seed=config.train.seed)
    spec = spec_lib.from_episodes(training)
    algorithm = learners.get(config.algo)
    learner = algorithm.make_learner(config, spec)
    seeds = [model_cases.make_state(learner)] * config.train.num_seeds
    states = jax.tree.map(lambda *x: jnp.stack(x), *seeds)
    device_data = algorithm.to_device(config, spec, training, is_training=True)
    chunk = training_fit.make_train_chunk(config, learner, steps)
    lowered = chunk.lower(states, device_data)
    started = time.perf_counter()
    compiled = lowered.compile()
    facts = {"compile_seconds": time.perf_counter() - started}
    if config.train.num_seeds > 1:
        train = dataclasses.replace(config.train, num_seeds=1)
        single = dataclasses.replace(config, train=train)
        chunk = training_fit.make_train_chunk(single, learner, steps)
        lowered = chunk.lower(jax.tree.map(lambda x: x[:1], states), device_data)
    memory = compiled.memory_analysis()
    held = [states]

    def run():
        held[0], metrics = compiled(held[0], device_data)
        return metrics

    device = jax.devices()[0]
    if device.platform != "cpu":
        jax.block_until_ready(run())
        facts["device_peak_bytes"] = device.memory_stats()["peak_bytes_in_use"]
    facts |= {
        # Of the program as lowered: the body of its loop over steps counts once.
        "xla_flops": common.xla_flops(lowered),
        "temporary_bytes": memory.temp_size_in_bytes if memory else None,
        "data_bytes": sum(x.nbytes for x in jax.tree.leaves(device_data)),
        "obs_dim": spec.obs_dim,
        "action_dim": spec.action_dim,
        "num_bins": sum(size for _, size in spec.rings),
    }
    return common.timed(run), facts


def build_fit(
    config: ExperimentConfig, data: str, steps: int
) -> tuple[common.Case, dict]:
    """`train.fit` from file to checkpoint, validation included; for `child.Child`."""
    train = dataclasses.replace(
        config.train, num_steps=steps, chunk=steps, checkpoint_every=steps
    )

    def run():
        with tempfile.TemporaryDirectory() as folder:
            training_fit.fit(
                dataclasses.replace(config, train=train), dsrl.load(data), folder
            )

    return common.timed(run), {}


def measure(
    configs: dict[str, ExperimentConfig],
    *,
    episodes: int,
    steps: dict[str, int],
    repeats: int,
    clock: str,
    folder: Path,
    has_fit: bool,
) -> tuple[list[dict], dict[str, float]]:
    """Rows of the configurations, and of `fit` with the first of them if `has_fit`.

    episodes: of the made-up data set. steps: of a call of each. folder: for the data.

    Returns:
      The rows, and the device's operations a second in products of each dtype.
    """
    whole, work = [], {}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        path = Path(made) / "episodes.hdf5"
        model_cases.write_episodes(path, next(iter(configs.values())), episodes)
        if has_fit:
            name, config = next(iter(configs.items()))
            kwargs = {"config": config, "data": str(path), "steps": steps[name]}
            name = f"{name}: fit, {episodes} episodes"
            whole.append(_measure_fit(name, **kwargs))
        peaks = {}
        for dtype in ("float32", "bfloat16"):
            peaks[dtype], work[dtype] = common.peak_case(dtype)
        children = {
            name: child.Child(
                build_steps, config=config, data=str(path), steps=steps[name]
            )
            for name, config in configs.items()
        }
        samples = common.interleave(peaks | children, repeats, "training")
    rows = []
    for name, config in configs.items():
        process, dtype = children[name], config.model.decoder.dtype
        share = common.ratio(samples[dtype], samples[name], clock) / work[dtype]
        row = _row(config, process.facts, samples[name], steps[name], clock)
        row["share_of_peak"] = share * row["model_flops"] * row["seeds"] * row["steps"]
        row["peak_bytes"] = process.peak_bytes()
        row["base_bytes"] = process.base_bytes
        rows.append({"case": name} | row)
        process.close()
    rates = {
        dtype: work[dtype] / common.seconds(samples[dtype])[clock]["median"]
        for dtype in work
    }
    return rows + whole, rates


def _row(
    config: ExperimentConfig,
    facts: dict,
    runs: list[common.Sample],
    steps: int,
    clock: str,
) -> dict:
    """What a configuration's row says of itself, of its calls and of their work.

    facts: of `build_steps`. runs: its calls, of `steps` training steps each.
    """
    train = config.train
    parts = flops.training_step(
        config,
        facts["obs_dim"],
        facts["action_dim"],
        rows=train.batch_rows,
        length=train.row_length,
        num_bins=facts["num_bins"],
    )
    wall = common.spread([1e3 * run.wall / steps for run in runs])
    return {
        "seeds": train.num_seeds,
        "batch_rows": train.batch_rows,
        "row_length": train.row_length,
        "dtype": config.model.decoder.dtype,
        "steps": steps,
        "milliseconds": common.spread(
            [1e3 * getattr(run, clock) / steps for run in runs]
        ),
        "wall_milliseconds": wall,
        "minutes_of_100k_steps": wall["median"] * 100_000 / 60_000,
        "flops": parts,
        "model_flops": sum(parts.values()),
        **facts,
    }


def _measure_fit(name, **kwargs):
    """The row of one run of `build_fit`."""
    fit = child.Child(build_fit, **kwargs)
    sample = fit()
    row = {
        "case": name,
        "seconds": sample._asdict(),
        "peak_bytes": fit.peak_bytes(),
        "base_bytes": fit.base_bytes,
    }
    fit.close()
    return row
