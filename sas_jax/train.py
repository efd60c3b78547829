"""The training loop: many steps a call, exact resume, one transfer of metrics a chunk.

Every draw comes from (key of the seed, step), and chunks begin at multiples of their
size, so a run that was killed and resumed ends with the same bits as one that was not.
"""

import csv
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax import checkpoint, losses
from sas_jax import spec as spec_lib
from sas_jax.data import windows
from sas_jax.data.episodes import Episodes
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig, make_model
from sas_jax.learners import sequence
from sas_jax.types import TrainState

# Fixed batches on which validation losses are computed, so that curves are comparable.
_VALIDATION_BATCHES = 4


def make_train_chunk(config: ExperimentConfig, learner, num_steps: int) -> Callable:
    """`(states [S], data) -> (states, mean metrics [S])`, jitted, states donated."""
    train = config.train

    def one_step(data, state: TrainState, _):
        key = jax.random.fold_in(state.key, 2 * state.step)
        batch = windows.sample(
            data,
            key,
            batch_rows=train.batch_rows,
            row_length=train.row_length,
            prompting=config.prompting(),
        )
        return learner.update(state, batch)

    def run(state, data):
        state, metrics = jax.lax.scan(
            functools.partial(one_step, data), state, length=num_steps
        )
        return state, jax.tree.map(jnp.mean, metrics)

    @functools.partial(jax.jit, donate_argnums=0)
    def chunk(states, data):
        if train.num_seeds > 1:
            return jax.vmap(run, in_axes=(0, None))(states, data)
        # A batch axis of one would send every product down the slower batched path.
        out = run(jax.tree.map(lambda x: x[0], states), data)
        return jax.tree.map(lambda x: x[None], out)

    return chunk


def make_validate(config: ExperimentConfig, spec) -> Callable:
    """`(states [S], held-out data) -> metrics [S]` on fixed batches, no dropout."""
    model, train = make_model(config, spec), config.train

    @jax.jit
    def validate(states, data):
        def one(state):
            def on_batch(index):
                key = jax.random.fold_in(jax.random.key(7), index)
                batch = windows.sample(
                    data, key, batch_rows=train.batch_rows, row_length=train.row_length
                )
                _, (_, metrics) = losses.loss(
                    model,
                    state.params,
                    sequence.variables_of(state)["variances"],
                    batch,
                    key,
                    state.step,
                    train=False,
                    temperature=sequence.temperature_of(state),
                )
                return metrics

            metrics = jax.lax.map(on_batch, jnp.arange(_VALIDATION_BATCHES))
            return jax.tree.map(jnp.mean, metrics)

        return jax.lax.map(one, states)

    return validate


def _event_writer(folder: Path):
    """TensorBoard's writer for `folder`; UserError when it is not installed."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise UserError(
            "train.tensorboard: tensorboardX is not installed; expected the extra "
            "'tensorboard' (pip install 'sas_jax[tensorboard]')"
        ) from error
    return SummaryWriter(str(folder))


class _Curve:
    """metrics.csv: one row per log point and seed, rewritten atomically."""

    def __init__(self, path: Path, step: int, *, tensorboard: bool):
        self._path, self._rows = path, []
        self._events = (
            _event_writer(path.parent / "tensorboard") if tensorboard else None
        )
        if path.exists():
            with path.open(newline="") as file:
                # A killed run may have logged past its last checkpoint.
                self._rows = [r for r in csv.DictReader(file) if int(r["step"]) <= step]

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        temporary = self._path.with_suffix(".tmp")
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self._rows)
        os.replace(temporary, self._path)
        if self._events:
            for name in row.keys() - {"step", "seed"}:
                tag = f"seed_{row['seed']}/{name}"
                self._events.add_scalar(tag, row[name], row["step"])
            self._events.flush()


def _check_data(config: ExperimentConfig, episodes: Episodes) -> None:
    """Raises UserError for data that the configuration cannot be trained on."""
    if episodes.num_episodes < 2:
        raise UserError(
            f"data of {config.task}: {episodes.num_episodes} episode(s); expected at "
            "least 2, one to train on and one to validate"
        )
    longest = int(episodes.lengths.max())
    if longest > config.model.max_timestep:
        raise UserError(
            f"data of {config.task}: an episode has {longest} steps; expected at most "
            f"model.max_timestep {config.model.max_timestep}"
        )


def fit(
    config: ExperimentConfig,
    episodes: Episodes,
    workdir: str | Path,
    *,
    make_card: Callable | None = None,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> checkpoint.Checkpoint:
    """Trains, or resumes, the run of `workdir`, and returns its last checkpoint.

    Args:
      config: what to train. episodes: all data; a share is held out.
      workdir: gets checkpoints/ and metrics.csv.
      make_card: `(config, spec, state of the first seed, held-out episodes) -> dict`,
        the world-model card that goes into the last checkpoint.
      progress: called after each chunk with (step, num_steps, metrics).

    Raises:
      UserError: unusable data, a folder of another run, or a loss that is not finite
        (named with its step; the last good checkpoint stays).
    """
    _check_data(config, episodes)
    train = config.train
    training, held_out = episodes.split(train.held_out, seed=train.seed)
    spec = spec_lib.from_episodes(
        training,
        return_scale=config.data.return_scale,
        cost_scale=config.data.cost_scale,
    )
    learner = sequence.make(config, spec)
    writer = checkpoint.Writer(workdir, config, spec)
    try:
        keys = jax.vmap(jax.random.key)(train.seed + np.arange(train.num_seeds))
        states = writer.resume(checkpoint.abstract_state(config, spec))
        if states is None:
            states = jax.jit(jax.vmap(learner.init))(keys)
        step = int(states.step[0])
        if step < train.num_steps:
            data = windows.to_device(training, spec, config.data, train.seed)
            validation = windows.to_device(held_out, spec)
            states = _loop(
                config,
                spec,
                learner,
                writer,
                states,
                data,
                validation,
                progress,
                workdir,
            )
            del data, validation
            first = jax.tree.map(lambda x: x[0], states)
            card = make_card(config, spec, first, held_out) if make_card else None
            writer.save(train.num_steps, states, card)
    finally:
        writer.close()
    return checkpoint.load(workdir, train.num_steps)


def _loop(config, spec, learner, writer, states, data, validation, progress, workdir):
    """Chunks from the state's step to the end; saves on the way, not at the end."""
    train = config.train
    chunk = make_train_chunk(config, learner, train.chunk)
    validate = make_validate(config, spec)
    step = int(states.step[0])
    curve = _Curve(Path(workdir) / "metrics.csv", step, tensorboard=train.tensorboard)
    started = time.monotonic()
    first_step = step
    while step < train.num_steps:
        size = min(train.chunk, train.num_steps - step)
        if size < train.chunk:
            chunk = make_train_chunk(config, learner, size)
        states, metrics = chunk(states, data)
        step += size
        metrics = jax.device_get(metrics)
        bad = np.flatnonzero(~np.isfinite(metrics["loss"]))
        if bad.size:
            raise UserError(
                f"loss of training seed {train.seed + int(bad[0])} is not finite "
                f"between steps {step - size} and {step}; the last checkpoint before "
                "them is whole: lower train.learning_rate"
            )
        if progress:
            progress(
                step, train.num_steps, {k: float(v[0]) for k, v in metrics.items()}
            )
        if step % train.checkpoint_every == 0 or step == train.num_steps:
            held_out = jax.device_get(validate(states, validation))
            pace = (step - first_step) / (time.monotonic() - started)
            for seed in range(train.num_seeds):
                row = {"step": step, "seed": train.seed + seed}
                row |= {k: float(v[seed]) for k, v in metrics.items()}
                row |= {f"val_{k}": float(v[seed]) for k, v in held_out.items()}
                curve.add({**row, "steps_per_second": pace})
            if step < train.num_steps:
                writer.save(step, states)
    return states
