"""Training while acting: chunk after chunk, exact resume, curves.

As `training.fit`, except that the buffer and the environments are part of what a
checkpoint holds: a run that was killed goes on in the middle of its episodes, and ends
with the same bits as one that was not. Tasks in JAX run on the device, in one program
with the updates (`on_device`); all others in processes of this machine's (`on_host`).
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from sas_jax import checkpoint, learners
from sas_jax.data import spec as spec_lib
from sas_jax.data.spec import DataSpec
from sas_jax.envs.tasks import get_task
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig
from sas_jax.jax_envs import loop, named
from sas_jax.jax_envs.protocol import JaxEnv
from sas_jax.online import on_host, worlds
from sas_jax.online.on_device import DeviceRunner, Runner
from sas_jax.training import failed_seeds
from sas_jax.training import fit as training_fit


def make_spec(task: str, env: JaxEnv) -> DataSpec:
    """Sizes and statistics, of a few episodes of random actions."""
    act = loop.random_behaviour(env)
    return spec_lib.from_episodes(
        loop.collect(env, task, act, episodes=worlds.SCALE_EPISODES)
    )


def fit(
    config: ExperimentConfig,
    workdir: str | Path,
    *,
    env: JaxEnv | None = None,
    spec: DataSpec | None = None,
    num_workers: int | None = None,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
    sinks: Sequence[str] = (),
    on_stage: Callable[[str], None] | None = None,
) -> checkpoint.Checkpoint:
    """Trains, or resumes, the run of `workdir`, and returns its last checkpoint.

    Args:
      config: what to train. workdir: gets checkpoints/ and metrics.csv, a row a chunk.
      env: the environment on the device; by default the task's, where it has one.
      spec: sizes and scales of its observations; by default of random actions.
      num_workers: processes of other environments; by default one a core. Results do
        not depend on it.
      progress: called after each chunk with (step, num_steps, metrics).
      sinks: where the curves go besides metrics.csv; names of `sinks.SINKS`.
      on_stage: called with words for what begins.

    Raises:
      UserError: an algorithm that does not act while it learns, workers that cannot
        start, a folder of another run, or no lane left whose loss is finite.
      WorkerError: an environment fails; the last checkpoint is whole.

    Warns:
      SeedWarning: a lane failed while others go on; see `checkpoint.Checkpoint.run`.
    """
    if learners.get(learners.check(config).algo).make_explorer is None:
        raise UserError(
            f"algo {config.algo!r} learns from recorded data; expected one that acts, "
            "such as 'sac_alam'"
        )
    on_stage = on_stage or (lambda words: None)
    if env is None and get_task(config.task).suite == named.SUITE:
        env = named.env_of(config.task)
    on_stage("scaling")
    runner: Runner
    if env is None:
        spec = spec or on_host.make_spec(config.task, num_workers=num_workers)
        runner = on_host.HostRunner(config, spec, num_workers=num_workers)
    elif num_workers is not None:
        raise UserError(f"workers {num_workers}: expected none, as the task is in JAX")
    else:
        spec = spec or make_spec(config.task, env)
        runner = DeviceRunner(config, spec, env)
    with contextlib.closing(runner):
        return _fit(config, spec, runner, workdir, sinks, (progress, on_stage))


def _fit(
    config: ExperimentConfig,
    spec: DataSpec,
    runner: Runner,
    workdir: str | Path,
    sinks: Sequence[str],
    calls: tuple[Callable | None, Callable[[str], None]],
) -> checkpoint.Checkpoint:
    """See `fit`."""
    writer = checkpoint.Writer(workdir, config, spec)
    try:
        saved = _saved(config, spec, runner, writer)
        if saved.step < config.train.num_steps:
            curve = training_fit.open_curve(workdir, saved.step, config, sinks)
            try:
                saved = _loop(config, runner, writer, saved, curve, calls)
            finally:
                curve.close()
    finally:
        writer.close()
    return checkpoint.load(workdir, saved.step)


def start(config: ExperimentConfig, spec: DataSpec, env: JaxEnv) -> tuple[Any, Any]:
    """States `[U]` and world before the first update, of a task in JAX."""
    return _states(config, spec), DeviceRunner(config, spec, env).begin()


def _states(config: ExperimentConfig, spec: DataSpec) -> Any:
    """States `[U]` before the first update."""
    learner = learners.get(config.algo).make_learner(config, spec)
    return training_fit.initial_states(config.train, learner, None)


def _saved(
    config: ExperimentConfig, spec: DataSpec, runner: Runner, writer: checkpoint.Writer
) -> checkpoint.Resumed:
    """The last checkpoint, or the start; the environments stand there."""
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    world = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here),
        runner.abstract(),
    )
    saved = writer.resume(checkpoint.abstract_state(config, spec), world)
    if saved is None:
        states = _states(config, spec)
        return checkpoint.Resumed(0, states, None, {}, world=runner.begin())
    if saved.step < config.train.num_steps:
        runner.go_on(saved.world)
    return saved


def _loop(
    config: ExperimentConfig,
    runner: Runner,
    writer: checkpoint.Writer,
    saved: checkpoint.Resumed,
    curve: Any,
    calls: tuple[Callable | None, Callable[[str], None]],
) -> checkpoint.Resumed:
    """Chunks from the saved step to the end, and checkpoints on the way."""
    train, (progress, on_stage) = config.train, calls
    states, world, step = saved.state, saved.world, saved.step
    tracker = failed_seeds.Tracker(train, saved.run)
    chunk = runner.chunk(train.chunk)
    on_stage("compiling")
    started, first = time.monotonic(), step
    while step < train.num_steps and tracker.learning().any():
        size = min(train.chunk, train.num_steps - step)
        if size < train.chunk:
            chunk = runner.chunk(size)
        states, world, metrics = chunk(states, world)
        step += size
        metrics, made = jax.device_get((metrics, states.step))
        training_fit.report_failures(train, tracker, tracker.note_steps(made, step))
        if step - size == first:
            on_stage("training")
        if progress:
            lead = tracker.first_good()
            shown = {k: float(v[lead]) for k, v in metrics.items()}
            progress(step, train.num_steps, shown)
        pace = (step - first) / (time.monotonic() - started)
        curve.add(training_fit.curve_rows(train, tracker, step, metrics, {}, pace))
        if step % train.checkpoint_every == 0 or step == train.num_steps:
            writer.save(step, states, run=tracker.to_json(), world=world)
    return checkpoint.Resumed(step, states, None, tracker.to_json(), world=world)
