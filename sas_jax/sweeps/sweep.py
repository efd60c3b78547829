"""Runs a plan: what is there is skipped, what is not goes to an engine.

A sweep owns its folder and its table: it alone writes the table, from the rows that
cells leave in folders of their own. So it may be killed at any moment; started again it
finds those rows.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sas_jax.errors import UserError
from sas_jax.files.lock import FolderLock
from sas_jax.files.results import read_results
from sas_jax.sweeps import status
from sas_jax.sweeps.cells import Cell
from sas_jax.sweeps.engines.engine import Engine, Resources
from sas_jax.sweeps.run_cell import ROWS, TRAINED, Job
from sas_jax.sweeps.table import SweepTable


@dataclasses.dataclass
class Standing:
    """How a cell stands.

    name: its id in the table. state: "done", "waiting" or "failed". error: in one line,
    why it failed. was_done: whether there was nothing to do from the start.
    """

    cell: Cell
    name: str = ""
    state: str = "waiting"
    error: str = ""
    was_done: bool = False


class Sweep:
    """A plan's cells in a folder, with a table.

    standings: of all cells, in the plan's order.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        folder: str | Path,
        table: str | Path | None = None,
        *,
        command: str = "",
        modules: Sequence[str] = (),
    ):
        """Reads what is there; writes nothing yet.

        Args:
          cells: of a plan. folder: of checkpoints, recordings and rows.
          table: CSV; None means results.csv in the folder.
          command: what was typed. modules: of the user's own, for the cells' processes.

        Raises:
          UserError: a table that cannot be read or written.
        """
        self.folder = Path(folder)
        self.table = SweepTable(table or self.folder / "results.csv", command)
        self._modules = tuple(modules)
        self.standings = [Standing(cell) for cell in cells]
        for standing in self.standings:
            try:
                standing.name = self.table.id_of(standing.cell)
            except UserError as error:
                standing.state, standing.error = "failed", str(error)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps other sweeps out of the folder and the table.

        Raises:
          UserError: one is there, or the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"folder {str(self.folder)!r}: {error.strerror}; expected one that can "
                "be written"
            ) from error
        locks = [FolderLock(self.folder, "a sweep")]
        try:
            beside = self.table.path.parent
            if beside.resolve() != self.folder.resolve():
                beside.mkdir(parents=True, exist_ok=True)
                locks.append(FolderLock(beside, f"a sweep into {self.table.path.name}"))
            yield
        finally:
            for lock in locks:
                lock.release()

    def path_of(self, standing: Standing) -> Path:
        """The folder of a cell."""
        return self.folder / "cells" / standing.cell.folder(standing.name)

    @property
    def data_folder(self) -> Path:
        """Where recordings lie."""
        return self.folder / "data"

    def has_data(self, cell: Cell) -> bool:
        """Whether the cell's recording is there."""
        return (self.data_folder / cell.data.name(cell.task)).exists()

    def has_model(self, standing: Standing) -> bool:
        """Whether the cell's training has ended."""
        return (self.model_of(standing) / TRAINED).exists()

    def model_of(self, standing: Standing) -> Path:
        """The folder of a cell's checkpoints; cells that act differently share it."""
        own = self.path_of(standing) / "model"
        # Where sweeps had them at first.
        if own.is_dir():
            return own
        return self.folder / "models" / standing.cell.model_folder

    def look(self) -> None:
        """Marks cells whose rows are all in the table."""
        for standing in self._open():
            if standing.cell.has_all(self.table.rows_of(standing.name)):
                standing.state, standing.was_done = "done", True

    def take_up(self) -> None:
        """Brings rows into the table that killed runs have left in their folders."""
        for standing in self._open():
            try:
                self._absorb(standing, final=False)
            except UserError as error:
                standing.state, standing.error = "failed", str(error)

    def run(
        self,
        engine: Engine,
        resources: Resources,
        *,
        tell: Callable[[Standing], None] = lambda standing: None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Runs what is left, inside of `alone`.

        tell: called with each cell that has ended. tick: called every second or so.

        Raises:
          UserError: the table cannot be written; or the engine cannot work at all.
        """
        todo = self._open()
        for standing in todo:
            status.clear(self.path_of(standing))
        jobs = [self._job(standing) for standing in todo]
        ended = set()
        events = engine(jobs, resources)
        try:
            for event in events:
                if event is None:
                    tick()
                    continue
                ended.add(event.number)
                standing = todo[event.number]
                self._end(standing, event.error)
                tell(standing)
        finally:
            events.close()
            # What was interrupted has rows, too.
            for index, standing in enumerate(todo):
                if index not in ended:
                    with contextlib.suppress(UserError):
                        self._absorb(standing, final=False)

    def _open(self) -> list[Standing]:
        return [s for s in self.standings if s.state == "waiting"]

    def _job(self, standing: Standing) -> Job:
        return Job(
            cell=standing.cell,
            name=standing.name,
            folder=str(self.path_of(standing).absolute()),
            model=str(self.model_of(standing).absolute()),
            data_folder=str(self.data_folder.absolute()),
            table=str(self.table.path.absolute()),
            modules=self._modules,
        )

    def _end(self, standing: Standing, error: str) -> None:
        """Takes in what a cell has left."""
        try:
            is_whole = self._absorb(standing, final=not error)
        except UserError as problem:
            is_whole, error = False, error or str(problem)
        if not error and not is_whole:
            error = f"{standing.cell}: ended without all of its rows"
        standing.state = "failed" if error else "done"
        standing.error = error

    def _absorb(self, standing: Standing, *, final: bool) -> bool:
        """Rows and measurements of a cell into the table; whether all are there."""
        folder, cell = self.path_of(standing), standing.cell
        outcome: dict[str, Any] = status.outcome_of(folder)
        facts = {k: v for k, v in outcome.items() if k != "error"}
        path = folder / ROWS
        rows = read_results(path) if path.exists() else []
        if rows:
            self.table.note(cell, standing.name, facts)
            self.table.absorb(standing.name, rows, final=final)
        return cell.has_all(self.table.rows_of(standing.name))
