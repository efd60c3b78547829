"""The training loop: many steps a call, exact resume, one transfer of metrics a chunk.

Every draw comes from (key of the seed, step), and chunks begin at multiples of their
size, so a run that was killed and resumed ends with the same bits as one that was not.
"""

import functools
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax import checkpoint, learners
from sas_jax import config as config_lib
from sas_jax.data import checks
from sas_jax.data import spec as spec_lib
from sas_jax.data.episodes import Episodes
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig, TrainConfig
from sas_jax.files.places import as_path
from sas_jax.training import devices, failed_seeds
from sas_jax.training.curves import Curve
from sas_jax.training.sinks import open_sinks
from sas_jax.training.step import make_step
from sas_jax.types import Learner, TrainState

# Fixed batches on which validation losses are computed, so that curves are comparable.
_VALIDATION_BATCHES = 4


class SeedWarning(UserWarning):
    """One of several lanes (training seeds, thresholds) failed; the others go on."""


class CardWarning(UserWarning):
    """The world-model card could not be measured; the training is whole."""


def make_train_chunk(
    config: ExperimentConfig, learner: Learner, num_steps: int, mesh: Any = None
) -> Callable:
    """`(states [U], data) -> (states, mean metrics [U])`, jitted, states donated.

    S: lanes of `TrainConfig.lanes`. One whose loss or gradient is not finite stands
    still from that step on: its state is the last good one, and `state.step` says
    which.

    mesh: devices that a batch's rows are spread over; None means one.
    """
    is_single = len(config.train.lanes) == 1
    one_step = make_step(config, learner, mesh)

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=devices.whole(mesh))
    def chunk(states, data):
        # Where the lanes stand that have not failed.
        steps = states.step.max() + jnp.arange(num_steps)
        if is_single:
            states = jax.tree.map(lambda x: x[0], states)
        states, metrics = jax.lax.scan(functools.partial(one_step, data), states, steps)
        out = states, jax.tree.map(lambda x: x.mean(axis=0), metrics)
        return jax.tree.map(lambda x: x[None], out) if is_single else out

    return chunk


def make_validate(learner: Learner, mesh: Any = None) -> Callable:
    """`(states [U], held-out data) -> metrics [U]` on fixed batches."""

    @functools.partial(jax.jit, out_shardings=devices.whole(mesh))
    def validate(states, data):
        def one(state):
            def on_batch(index):
                key = jax.random.fold_in(jax.random.key(7), index)
                batch = devices.spread_rows(learner.sample(data, key, state), mesh)
                return learner.validate(state, batch, key)

            metrics = jax.lax.map(on_batch, jnp.arange(_VALIDATION_BATCHES))
            return jax.tree.map(jnp.mean, metrics)

        return jax.lax.map(one, states)

    return validate


def _check_data(config: ExperimentConfig, episodes: Episodes) -> None:
    """Raises UserError for data that the configuration cannot be trained on."""
    checks.check_task(episodes, config.task, owner="the configuration")
    if episodes.num_episodes < 2:
        raise UserError(
            f"data of {config.task}: {episodes.num_episodes} episode(s); expected at "
            "least 2, one to train on and one to validate"
        )
    learners.get(config.algo).check_data(config, episodes)
    checks.check_finite(episodes)


class SettingsWarning(UserWarning):
    """Settings that can be trained with, but hardly can be meant."""


def warn_settings(train: TrainConfig) -> None:
    """One `SettingsWarning` where training ends before the learning rate is reached."""
    if train.num_steps <= train.warmup:
        warnings.warn(
            f"train.num_steps {train.num_steps} is within train.warmup {train.warmup}: "
            f"the learning rate never reaches {train.learning_rate:g}; expected more "
            "steps, or a shorter warm-up",
            SettingsWarning,
            stacklevel=3,
        )


class _Run(NamedTuple):
    """What the loop needs beside the states; data and validation on the devices."""

    config: ExperimentConfig
    learner: Learner
    writer: checkpoint.Writer
    data: Any
    validation: Any
    validate: Callable
    mesh: Any
    progress: Callable | None
    curve: Curve | None
    on_stage: Callable[[str], None]


def fit(
    config: ExperimentConfig,
    episodes: Episodes,
    workdir: str | Path,
    *,
    make_card: Callable | None = None,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
    sinks: Sequence[str] = (),
    on_stage: Callable[[str], None] | None = None,
) -> checkpoint.Checkpoint:
    """Trains, or resumes, the run of `workdir`, and returns its last checkpoint.

    With several hosts (`devices.start_hosts`) every one of them calls this with the
    same data and a folder that all of them see; the first one keeps the curves.

    Args:
      config: what to train. episodes: all data; a share is held out.
      workdir: gets checkpoints/ and metrics.csv.
      make_card: `(config, spec, state of the first good lane, held-out episodes) ->
        dict`, the world-model card. It goes into the last checkpoint once that is
        written; a finished run without one gets one.
      progress: called after each chunk with (step, num_steps, metrics).
      sinks: where the curves go besides metrics.csv; names of `sinks.SINKS`.
      on_stage: called with words for what begins: compiling, training, the card.

    Raises:
      UserError: settings that do not fit one another, unusable data, a folder of
        another run, devices that are not there, or no lane left whose loss is finite
        (named with its step; the last good checkpoint stays).

    Warns:
      CardWarning: `make_card` raised an exception; the checkpoint is whole without it.
      SeedWarning: a lane failed while others go on; see `checkpoint.Checkpoint.run`.
      DataWarning: what deserves a look in the data; see `data.checks.warn`.
      SettingsWarning: see `warn_settings`.
    """
    algorithm = learners.get(learners.check(config).algo)
    _check_data(config, episodes)
    train = config.train
    mesh = devices.make_mesh(train.devices, train.batch_rows, train.accumulate)
    training, held_out = episodes.split(train.held_out, seed=train.seed)
    spec = spec_lib.from_episodes(training)
    learner = algorithm.make_learner(config, spec)
    writer = checkpoint.Writer(workdir, config, spec)
    try:
        whole = devices.whole(mesh)
        saved = writer.resume(checkpoint.abstract_state(config, spec, whole))
        if saved is None:
            states = initial_states(train, learner, whole)
            saved = checkpoint.Resumed(0, states, None, {})
        if saved.step < train.num_steps and not saved.run.get("is_finished"):
            checks.warn(episodes, context=algorithm.context(config))
            warn_settings(train)
            data = algorithm.to_device(config, spec, training, is_training=True)
            validation = algorithm.to_device(config, spec, held_out, is_training=False)
            first_host = devices.is_first_host()
            run = _Run(
                config=config,
                learner=learner,
                writer=writer,
                data=devices.replicate(data, mesh),
                validation=devices.replicate(validation, mesh),
                validate=make_validate(learner, mesh),
                mesh=mesh,
                progress=progress if first_host else None,
                curve=open_curve(workdir, saved.step, config, sinks)
                if first_host
                else None,
                on_stage=on_stage or (lambda words: None),
            )
            del data, validation
            try:
                saved = _finish(run, saved)
            finally:
                if run.curve:
                    run.curve.close()
            del run
        if make_card and not saved.has_card:
            if on_stage:
                on_stage("measuring the card")
            _add_card(writer, make_card, config, spec, saved, held_out, mesh)
    finally:
        writer.close()
    return checkpoint.load(workdir, saved.step)


def _finish(run: _Run, saved: checkpoint.Resumed) -> checkpoint.Resumed:
    """Trains to the end and saves it, before anything else is measured."""
    step, states, tracker = _loop(run, saved)
    facts = tracker.to_json() | {"is_finished": True}
    run.writer.save(step, states, run=facts)
    return checkpoint.Resumed(step, states, None, facts)


def _add_card(
    writer: checkpoint.Writer,
    make_card: Callable,
    config: ExperimentConfig,
    spec: spec_lib.DataSpec,
    saved: checkpoint.Resumed,
    held_out: Episodes,
    mesh: Any,
) -> None:
    """Measures the card of the first good lane; what fails there is a warning."""
    lead = failed_seeds.Tracker(config.train, saved.run).first_good()
    local = devices.on_one_device(saved.state, mesh)
    good = jax.tree.map(lambda x: x[lead], local)
    try:
        card = make_card(config, spec, good, held_out)
    except Exception as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        warnings.warn(
            f"the card was not measured ({reason}); the checkpoint of step "
            f"{saved.step} is whole, and the same command tries again",
            CardWarning,
            stacklevel=3,
        )
        return
    if devices.is_first_host():
        writer.add_card(saved.step, card)


def initial_states(train: TrainConfig, learner: Learner, sharding: Any) -> TrainState:
    """The states of all lanes before the first step; a seed's lanes begin alike."""
    seeds, limits = (np.array(x) for x in zip(*train.lanes, strict=True))

    def init(seeds, limits):
        keys = jax.vmap(jax.random.key)(seeds)
        return jax.vmap(learner.init)(keys, limits)

    init = jax.jit(init, out_shardings=sharding)
    return init(seeds, limits.astype(np.float32))


def open_curve(
    workdir: str | Path, step: int, config: ExperimentConfig, names: Sequence[str]
) -> Curve:
    """The curves of a run that stands at `step`."""
    folder = as_path(workdir)
    names = [*names, *(["tensorboard"] if config.train.tensorboard else [])]
    opened = open_sinks(names, folder, config_lib.to_dict(config))
    return Curve(folder / "metrics.csv", step, sinks=opened)


def _loop(
    run: _Run, saved: checkpoint.Resumed
) -> tuple[int, TrainState, failed_seeds.Tracker]:
    """Chunks from the saved step to the end; saves on the way, not at the end.

    Returns the step, the states to keep and the tracker.
    """
    train, states, step = run.config.train, saved.state, saved.step
    tracker, best = failed_seeds.Tracker(train, saved.run), saved.best
    if train.stop_on:
        names = jax.eval_shape(run.validate, states, run.validation)
        failed_seeds.check_name(train, list(names))
        best = jax.tree.map(jnp.copy, states) if best is None else best
    chunk = make_train_chunk(run.config, run.learner, train.chunk, run.mesh)
    started, first_step = time.monotonic(), step
    run.on_stage("compiling")
    while step < train.num_steps and tracker.learning().any():
        size = min(train.chunk, train.num_steps - step)
        if size < train.chunk:
            chunk = make_train_chunk(run.config, run.learner, size, run.mesh)
        states, metrics = chunk(states, run.data)
        step += size
        metrics, made = jax.device_get((metrics, states.step))
        report_failures(train, tracker, tracker.note_steps(made, step))
        if step - size == first_step:
            run.on_stage("training")
        if run.progress:
            lead = tracker.first_good()
            shown = {k: float(v[lead]) for k, v in metrics.items()}
            run.progress(step, train.num_steps, shown)
        is_due = step % train.checkpoint_every == 0 or step == train.num_steps
        if not is_due and step not in train.kept_steps:
            continue
        held_out = jax.device_get(run.validate(states, run.validation))
        if run.curve:
            pace = (step - first_step) / (time.monotonic() - started)
            run.curve.add(curve_rows(train, tracker, step, metrics, held_out, pace))
        if train.stop_on and is_due:
            improved = tracker.note_validation(held_out, step)
            best = failed_seeds.keep_best(improved, states, best)
        if step < train.num_steps and tracker.learning().any():
            run.writer.save(step, states, best=best, run=tracker.to_json())
    if train.stop_on and best is not None:
        states = best
    return step, states, tracker


def report_failures(
    train: TrainConfig, tracker: failed_seeds.Tracker, new: list[int]
) -> None:
    """Warns of lanes that have just failed; UserError when none is left."""

    def said(index):
        good = tracker.failed[index]
        return (
            f"loss of training seed {train.lanes[index]} is not finite at step "
            f"{good + 1}"
        )

    if len(tracker.failed) == len(train.lanes):
        each = "; ".join(said(i) for i in sorted(tracker.failed))
        raise UserError(
            f"{each}; the last checkpoint before is whole: lower train.learning_rate"
        )
    for index in new:
        warnings.warn(
            f"{said(index)}; it stays at its last good state, the others go on",
            SeedWarning,
            stacklevel=4,
        )


def curve_rows(
    train: TrainConfig,
    tracker: failed_seeds.Tracker,
    step: int,
    metrics: dict[str, np.ndarray],
    held_out: dict[str, np.ndarray],
    pace: float,
) -> list[dict[str, Any]]:
    """Rows of metrics.csv: one for each lane that has not failed."""
    rows = []
    for index, lane in enumerate(train.lanes):
        if index in tracker.failed:
            continue
        row: dict[str, Any] = {"step": step, "seed": lane.seed}
        if train.cost_limits:
            row["cost_limit"] = lane.cost_limit
        row |= {k: float(v[index]) for k, v in metrics.items()}
        row |= {f"val_{k}": float(v[index]) for k, v in held_out.items()}
        rows.append({**row, "steps_per_second": pace})
    return rows
