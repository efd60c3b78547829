"""What runs of a cell, in one process: its data, training, critic and evaluation.

Each stage is the library's own and resumes as it does: recordings by episode, training
by checkpoint and to the bit, evaluation by block of 32 episodes. So a cell that was
killed goes on where it was, in whatever process of whatever engine.
"""

import contextlib
import dataclasses
import functools
import math
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sas_jax import checkpoint
from sas_jax.card import measure
from sas_jax.checkpoint_content import deciding
from sas_jax.data import collect, dsrl
from sas_jax.data.episodes import Episodes
from sas_jax.envs import imports
from sas_jax.envs.tasks import get_task
from sas_jax.errors import UserError
from sas_jax.evaluation.evaluate import evaluate
from sas_jax.evaluation.work import key_of, work_of
from sas_jax.files import atomic
from sas_jax.files.lock import FolderLock
from sas_jax.files.results import EpisodeResult, read_results, write_results
from sas_jax.sweeps import companions, status
from sas_jax.sweeps.cells import RECORD, Cell, from_json
from sas_jax.sweeps.table import CELL, CHECKPOINT
from sas_jax.training import fit as training_fit

ROWS, TRAINED = "results.csv", "trained.txt"
_WAIT = 1.0  # seconds between two tries to take a lock
_PATIENCE = 60.0  # seconds that a predecessor has to end


@dataclasses.dataclass(frozen=True)
class Job:
    """A cell, and where it is to run.

    cell: of the plan. name: the id that the table has for it. folder: of its rows.
    model: of its checkpoints, which cells may share. data_folder: of recordings, shared
    by all cells. table: of the sweep, whose rows of this cell are not run again.
    modules: of the user's own, which are imported first. workers: environment
    processes; None means one a core that it may use.
    """

    cell: Cell
    name: str
    folder: str
    model: str
    data_folder: str
    table: str
    modules: tuple[str, ...] = ()
    workers: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a process elsewhere."""
        known = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return known | {"cell": self.cell.to_json(), "modules": list(self.modules)}


def run(values: dict[str, Any]) -> str:
    """Runs a job, whatever is left of it; its outcome is kept in its folder.

    values: of `Job.to_json`.

    Returns:
      "" where all is done, else in one line what failed.
    """
    folder = Path(values["folder"])
    said = ""
    try:
        imports.import_modules(values["modules"])
        cell = from_json(values["cell"])
        job = Job(**values | {"cell": cell, "modules": tuple(values["modules"])})
        folder.mkdir(parents=True, exist_ok=True)
        # Whoever was killed here, perhaps on a node that was lost, is about to go.
        lock = _patient(folder, "a cell", _PATIENCE)
    except (UserError, OSError) as error:
        return " ".join(str(error).split())
    found: dict[str, Any] = {"measured": {}}
    try:
        _run(job, found)
    except UserError as error:
        said = " ".join(str(error).split())
    except Exception as error:  # a cell's fault is not the other cells'
        traceback.print_exc()
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    finally:
        lock.release()
    with contextlib.suppress(UserError):
        status.write_outcome(folder, found | {"error": said})
    return said


def _run(job: Job, found: dict[str, Any]) -> None:
    """All stages; `found` gets what the table keeps of them."""
    cell, folder = job.cell, Path(job.folder)
    report = status.Reporter(folder)
    clock = _Clock(found["measured"])
    loaded, episodes = _model(job, report, clock)
    loaded = loaded._replace(config=cell.acts_with)
    digest = checkpoint.digest_of(loaded)
    found |= {
        "checkpoint": digest,
        "data": loaded.spec.fingerprint,
        "step": loaded.step,
    }
    done = _known_rows(job, digest)
    extra = {}
    if not cell.has_all(done):
        extra = companions.fitted(
            cell,
            folder,
            loaded,
            functools.partial(_load, job, report, clock, episodes),
            report,
            clock,
        )
    del episodes
    for config in cell.evaluations():
        config = dataclasses.replace(config, num_workers=job.workers)
        work = work_of(cell.acts_with, config, done)
        if not work:
            continue
        layouts = sum(len(seeds) for _, seeds in work)
        runs = sum(part.num_groups * len(seeds) for part, seeds in work)
        total = runs * get_task(cell.task).episode_steps
        steps = _Count(lambda made, total=total: report("evaluate", made, total))

        def keep(rows: list[EpisodeResult]) -> None:
            write_results(folder / ROWS, _marked(rows, job, digest))

        note = ",".join(config.variants)
        with clock.lap("evaluate", layouts, note=note, episodes=runs):
            # Rows that are there already come back with the new ones.
            evaluate(
                loaded,
                config,
                **extra,
                done=done,
                on_step=steps,
                on_rows=keep,
            )
        done = read_results(folder / ROWS)
    if done:  # all of them may have come from the table
        write_results(folder / ROWS, _marked(done, job, digest))


class _Count:
    """Sums what it is called with, and tells of the sum."""

    def __init__(self, tell: Callable[[int], None]):
        self._tell, self._sum = tell, 0

    def __call__(self, count: int) -> None:
        self._sum += count
        self._tell(self._sum)


class _Clock:
    """Seconds of stages, and what they were for: what estimates are made of."""

    def __init__(self, measured: dict[str, Any]):
        self._measured = measured

    @contextlib.contextmanager
    def lap(
        self, stage: str, count: int, note: str = "", episodes: int = 0
    ) -> Iterator[None]:
        """Times a stage that does `count` units; nothing is kept of one that fails.

        episodes: that an evaluation has run for its layouts.
        """
        started = time.monotonic()
        yield
        self.add(stage, time.monotonic() - started, count, note, episodes)

    def add(
        self, stage: str, seconds: float, count: int, note: str = "", episodes: int = 0
    ) -> None:
        """Counts seconds into a stage."""
        old = self._measured.get(stage, {"seconds": 0.0, "count": 0})
        found: dict[str, Any] = {
            "seconds": round(old["seconds"] + seconds, 3),
            "count": old["count"] + count,
        }
        if note:
            found["note"] = note
        if episodes:
            found["episodes"] = old.get("episodes", 0) + episodes
        self._measured[stage] = found


def _model(
    job: Job, report: status.Reporter, clock: _Clock
) -> tuple[checkpoint.Checkpoint, Episodes | None]:
    """The cell's checkpoint, trained by the first of the cells that share it; and its
    data, where they had to be read.
    """
    path, episodes = Path(job.model), None
    path.mkdir(parents=True, exist_ok=True)
    with _alone(path, "a model", report, "wait for training"):
        loaded = _finished(job.cell, path)
        if loaded is None:
            episodes = _load(job, report, clock)
            loaded = _train(job.cell, episodes, path, report, clock)
        if not (path / TRAINED).exists():
            atomic.write_text(path / TRAINED, f"step {loaded.step}\n")
    return loaded, episodes


def _finished(cell: Cell, workdir: Path) -> checkpoint.Checkpoint | None:
    """The cell's checkpoint, where there is nothing left to train."""
    try:
        loaded = checkpoint.load(workdir)
    except UserError:
        return None  # training says what is wrong with it, or makes it
    has_card = loaded.card is not None or not cell.has_card
    is_done = loaded.run.get("is_finished") and has_card
    is_it = deciding(loaded.config) == deciding(cell.config)
    return loaded if is_done and is_it else None


def _known_rows(job: Job, digest: str) -> list[EpisodeResult]:
    """Rows of this very checkpoint, from the sweep's table and the cell's folder."""
    rows = {}
    for path in (Path(job.table), Path(job.folder) / ROWS):
        if not path.exists():
            continue
        for row in read_results(path):
            if row.extra.get(CELL) == job.name:
                if row.extra.get(CHECKPOINT) == digest:
                    rows[key_of(row)] = row
    return list(rows.values())


def _marked(rows: list[EpisodeResult], job: Job, digest: str) -> list[EpisodeResult]:
    """Rows that say whose they are, and with the method's name as `algo`."""
    marks = {CELL: job.name, CHECKPOINT: digest}
    return [
        dataclasses.replace(row, algo=job.cell.name, extra=row.extra | marks)
        for row in rows
    ]


def _load(
    job: Job,
    report: status.Reporter,
    clock: _Clock,
    episodes: Episodes | None = None,
) -> Episodes:
    """The cell's data, recorded first where no other cell has done so.

    episodes: where they were read already.
    """
    if episodes is not None:
        return episodes
    data, task = job.cell.data, job.cell.task
    if data.source != RECORD:
        name = task if data.source == "dsrl" else data.source.replace("{task}", task)
        return dsrl.load(name, task=task)
    plan = collect.Plan(
        task, data.episodes, data.seed, data.mixture, data.shift, data.policy
    )
    path = Path(job.data_folder) / data.name(task)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path.parent, f"recording {path.stem}", report, "wait for data"):
        if not path.exists():
            with clock.lap("collect", data.episodes):

                def show(done: int, total: int) -> None:
                    report("collect", done, total)

                collect.collect(plan, path, workers=job.workers, progress=show)
        # Reads what is there, and refuses another recording.
        return collect.collect(plan, path)


def _patient(
    folder: Path,
    work: str,
    seconds: float,
    on_wait: Callable[[], None] = lambda: None,
) -> FolderLock:
    """A folder's lock, once whoever has it has gone; UserError after so many seconds,
    or where there is no such folder.
    """
    started = time.monotonic()
    while True:
        try:
            return FolderLock(folder, work)
        except UserError:
            if not folder.is_dir() or time.monotonic() - started > seconds:
                raise
        on_wait()
        time.sleep(_WAIT)


@contextlib.contextmanager
def _alone(
    folder: Path, work: str, report: status.Reporter, words: str
) -> Iterator[None]:
    """Holds the lock of a folder's work, waiting for whoever has it.

    words: what is told meanwhile.
    """
    wait = functools.partial(report, words, 0, 1)
    lock = _patient(folder, work, math.inf, wait)
    try:
        yield
    finally:
        lock.release()


def _train(
    cell: Cell,
    episodes: Episodes,
    workdir: Path,
    report: status.Reporter,
    clock: _Clock,
) -> checkpoint.Checkpoint:
    """Trains, or goes on; the card too where the plan asks for it."""
    first: list[int] = []
    started = time.monotonic()
    last = started

    def show(step: int, total: int, _: dict[str, float]) -> None:
        nonlocal started, last
        last = time.monotonic()
        if not first:  # compiled now; what comes is the rate
            started = last
        first.append(step)
        report("train", step, total)

    loaded = training_fit.fit(
        cell.config,
        episodes,
        workdir,
        make_card=measure.make_card if cell.has_card else None,
        progress=show,
    )
    if len(first) > 1:
        clock.add("train", last - started, first[-1] - first[0])
    return loaded
