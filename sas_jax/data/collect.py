"""Records episodes of scripted behaviours on all cores; resumes where it stopped.

Every episode is a part file of its own, written whole by the worker that ran it: there
is no traffic per step, and what is there after a kill need not be run again. The data
file is put together from the parts in order and depends on (task, seed, number of
episodes) only, not on the number of workers nor on interruptions.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil

import numpy as np

from sas_jax.data import dsrl, hdf5
from sas_jax.data.behaviours import dials as behaviours_dials
from sas_jax.data.collection import pool
from sas_jax.data.collection.episode import load_part, record
from sas_jax.data.collection.plan import FIELDS, Plan, difference, header
from sas_jax.data.episodes import Episodes
from sas_jax.envs import tasks
from sas_jax.errors import UserError
from sas_jax.files import atomic, places

__all__ = ["Plan", "collect", "record", "recorded", "summary"]


def collect(
    plan: Plan, out: str | os.PathLike, *, workers: int | None = None, progress=None
) -> Episodes:
    """Records the planned episodes and writes them as a DSRL file.

    Args:
      plan: what to record.
      out: the file. Parts lie in ``<out>.parts`` until it is complete.
      workers: processes; by default one per usable core.
      progress: called with (episodes done, episodes in all) after each episode.

    Returns:
      The episodes, as written. A file at `out` that holds this very recording is
      read and left as it is.

    Raises:
      UserError: a bad number of workers, a URL, a file or parts of another plan at
        `out`, a folder that cannot be written, or a worker that died.
    """
    if places.is_url(out):
        raise UserError(f"{out}: expected a path of this machine; workers share it")
    out = places.as_path(out)
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    if workers < 1:
        raise UserError(f"workers {workers}: expected at least 1")
    if out.exists():
        return recorded(plan, out, header(plan))
    parts = out.with_name(f"{out.name}.parts")
    _claim(parts, plan)
    missing = [e for e in range(plan.episodes) if load_part(parts, e) is None]
    report = progress or (lambda done, total: None)
    done = plan.episodes - len(missing)
    report(done, plan.episodes)
    with contextlib.closing(pool.run(plan, parts, missing, workers)) as runs:
        for _ in runs:
            done += 1
            report(done, plan.episodes)
    episodes = _assemble(plan, parts)
    dsrl.write(out, episodes, header(plan), columns=_columns(plan))
    shutil.rmtree(parts, ignore_errors=True)
    return episodes


def _columns(plan: Plan) -> dict[str, np.ndarray]:
    """Each episode's dials and layout seed, `[E]` arrays by name."""
    numbers = range(plan.episodes)
    seeds = [plan.environment_seed(episode) for episode in numbers]
    seeds = {"seed": np.array(seeds, dtype=np.int64)}
    if plan.policy:
        return seeds
    dials = [plan.dials(episode) for episode in numbers]
    columns = {
        field.name: np.array([getattr(d, field.name) for d in dials])
        for field in dataclasses.fields(behaviours_dials.Behaviour)
        if field.name != "may_reverse"  # the same for all of a mixture
    }
    return columns | seeds


def summary(episodes: Episodes) -> str:
    """A table of what was recorded, beside DSRL's ranges where it has the task."""
    known = tasks.get_task(episodes.task).references
    rows = [
        ("return", episodes.returns(), (known.return_min, known.return_max)),
        ("cost", episodes.cost_returns(), (known.cost_min, known.cost_max)),
    ]
    size = f"{episodes.num_episodes} episodes, {episodes.num_steps} steps"
    lines = [
        f"{episodes.task}: {size}",
        f"{'':8}{'min':>8}{'median':>8}{'mean':>8}{'max':>8}"
        + ("   DSRL min .. max" if known.dsrl_stem else ""),
    ]
    for name, values, (low, high) in rows:
        numbers = (values.min(), np.median(values), values.mean(), values.max())
        shown = "".join(f"{number:8.1f}" for number in numbers)
        ranges = f"   {low:.1f} .. {high:.1f}" if known.dsrl_stem else ""
        lines.append(f"{name:8}{shown}{ranges}")
    return "\n".join(lines)


def recorded(plan: Plan, out: pathlib.Path, expected: dict[str, str | int]) -> Episodes:
    """Reads a file that is there.

    expected: what `header` says of the recording, and what others add to that.

    Raises:
      UserError: it is another recording.
    """
    with hdf5.open_file(out) as file:
        found = {name: hdf5.read_attribute(file, name) for name in FIELDS}
    episodes, what = None, difference(found, expected)
    if not what:
        episodes = dsrl.load(out, task=plan.task)
        if episodes.num_episodes != plan.episodes:
            count = episodes.num_episodes
            what = f"episodes {count} where {plan.episodes} is asked for"
    if what:
        raise UserError(
            f"{out}: exists already and is not this recording ({what}); choose another "
            "file or delete it"
        )
    return episodes


def _claim(parts: pathlib.Path, plan: Plan) -> None:
    """Makes the folder of parts, or checks that it belongs to the same recording."""
    expected, marker = header(plan), parts / "recording.json"
    try:
        found = dict(json.loads(marker.read_text()))
    except (FileNotFoundError, NotADirectoryError):
        atomic.write_text(marker, json.dumps(expected))
        return
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{marker}: unreadable; delete {parts} to start anew"
        ) from error
    what = difference(found, expected)
    if what:
        raise UserError(
            f"{parts}: holds episodes of another recording ({what}); delete it or "
            "choose another file"
        )


def _assemble(plan: Plan, parts: pathlib.Path) -> Episodes:
    """Puts the parts together in order."""
    loaded = [load_part(parts, e) for e in range(plan.episodes)]
    lengths = [len(part["rewards"]) for part in loaded]
    return Episodes(
        task=plan.task,
        observations=np.concatenate([part["observations"][:-1] for part in loaded]),
        actions=np.concatenate([part["actions"] for part in loaded]),
        rewards=np.concatenate([part["rewards"] for part in loaded]),
        costs=np.concatenate([part["costs"] for part in loaded]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        final_observations=np.stack([part["observations"][-1] for part in loaded]),
        terminated=np.array([bool(part["terminated"]) for part in loaded]),
    )
