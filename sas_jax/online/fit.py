"""Training while acting: chunks in one program each, exact resume, curves.

As `training.fit`, except that the buffer and the environments are part of what a
checkpoint holds: a run that was killed goes on in the middle of its episodes, and ends
with the same bits as one that was not.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from sas_jax import checkpoint, learners
from sas_jax.data import spec as spec_lib
from sas_jax.data.spec import DataSpec
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig
from sas_jax.jax_envs import loop, named
from sas_jax.jax_envs.protocol import JaxEnv
from sas_jax.online import chunk as chunk_lib
from sas_jax.training import failed_seeds
from sas_jax.training import fit as training_fit

# Episodes of random actions that scale the observations; the same for every run.
_SCALE_EPISODES = 8


def make_spec(task: str, env: JaxEnv) -> DataSpec:
    """Sizes and statistics, of a few episodes of random actions."""
    act = loop.random_behaviour(env)
    return spec_lib.from_episodes(
        loop.collect(env, task, act, episodes=_SCALE_EPISODES)
    )


def fit(
    config: ExperimentConfig,
    workdir: str | Path,
    *,
    env: JaxEnv | None = None,
    spec: DataSpec | None = None,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
    sinks: Sequence[str] = (),
    on_stage: Callable[[str], None] | None = None,
) -> checkpoint.Checkpoint:
    """Trains, or resumes, the run of `workdir`, and returns its last checkpoint.

    Args:
      config: what to train. workdir: gets checkpoints/ and metrics.csv, a row a chunk.
      env: the environment; by default the task's.
      spec: sizes and scales of its observations; by default `make_spec`.
      progress: called after each chunk with (step, num_steps, metrics).
      sinks: where the curves go besides metrics.csv; names of `sinks.SINKS`.
      on_stage: called with words for what begins.

    Raises:
      UserError: an algorithm that does not act while it learns, a task without an
        environment on the device, a folder of another run, or no lane left whose loss
        is finite.

    Warns:
      SeedWarning: a lane failed while others go on; see `checkpoint.Checkpoint.run`.
    """
    if learners.get(learners.check(config).algo).make_explorer is None:
        raise UserError(
            f"algo {config.algo!r} learns from recorded data; expected one that acts, "
            "such as 'sac_alam'"
        )
    on_stage = on_stage or (lambda words: None)
    env = env or named.env_of(config.task)
    on_stage("scaling")
    spec = spec or make_spec(config.task, env)
    writer = checkpoint.Writer(workdir, config, spec)
    try:
        saved = _saved(config, spec, env, writer)
        if saved.step < config.train.num_steps:
            curve = training_fit.open_curve(workdir, saved.step, config, sinks)
            try:
                calls = progress, on_stage
                saved = _loop(config, spec, env, writer, saved, curve, calls)
            finally:
                curve.close()
    finally:
        writer.close()
    return checkpoint.load(workdir, saved.step)


def start(config: ExperimentConfig, spec: DataSpec, env: JaxEnv) -> tuple[Any, Any]:
    """States `[U]` and world before the first update."""
    learner = learners.get(config.algo).make_learner(config, spec)
    states = training_fit.initial_states(config.train, learner, None)
    return states, jax.jit(lambda: chunk_lib.begin(config, spec, env))()


def _saved(
    config: ExperimentConfig, spec: DataSpec, env: JaxEnv, writer: checkpoint.Writer
) -> checkpoint.Resumed:
    """The last checkpoint, or the start."""
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    world = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here),
        jax.eval_shape(lambda: chunk_lib.begin(config, spec, env)),
    )
    saved = writer.resume(checkpoint.abstract_state(config, spec), world)
    if saved is not None:
        return saved
    states, world = start(config, spec, env)
    return checkpoint.Resumed(0, states, None, {}, world=world)


def _loop(
    config: ExperimentConfig,
    spec: DataSpec,
    env: JaxEnv,
    writer: checkpoint.Writer,
    saved: checkpoint.Resumed,
    curve: Any,
    calls: tuple[Callable | None, Callable[[str], None]],
) -> checkpoint.Resumed:
    """Chunks from the saved step to the end, and checkpoints on the way."""
    train, (progress, on_stage) = config.train, calls
    states, world, step = saved.state, saved.world, saved.step
    tracker = failed_seeds.Tracker(train, saved.run)
    chunk = chunk_lib.make_chunk(config, spec, env, train.chunk)
    on_stage("compiling")
    started, first = time.monotonic(), step
    while step < train.num_steps and tracker.learning().any():
        size = min(train.chunk, train.num_steps - step)
        if size < train.chunk:
            chunk = chunk_lib.make_chunk(config, spec, env, size)
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
