"""The one results table of a sweep, and what is known of the cells that filled it.

FILE.csv has a row an episode and threshold, as `experiments.evaluate` writes them, with
two columns more: ``cell``, by which FILE.json knows what was trained, and
``checkpoint``, a digest of the parameters that acted. Rows of one cell are of one
checkpoint, so that its variants can be paired. Both files are replaced whole.
"""

import json
import os
from collections.abc import Sequence
from typing import Any

from sas_jax import config as config_lib
from sas_jax.errors import UserError
from sas_jax.evaluation.work import key_of
from sas_jax.files import atomic
from sas_jax.files.places import as_path
from sas_jax.files.results import EpisodeResult, read_results, write_results
from sas_jax.sweeps.cells import Cell, normalised

CELL, CHECKPOINT = "cell", "checkpoint"


def checkpoint_of(rows: Sequence[EpisodeResult]) -> str:
    """The digest that rows of one cell share; "" without rows.

    Raises:
      UserError: they are of several checkpoints.
    """
    found = sorted({row.extra.get(CHECKPOINT, "") for row in rows})
    if len(found) > 1:
        one = rows[0]
        raise UserError(
            f"rows of {one.task}/{one.algo}/{one.train_seed} are of {len(found)} "
            f"checkpoints ({', '.join(found)}); expected one"
        )
    return found[0] if found else ""


def read_records(path: str | os.PathLike) -> tuple[dict[str, Any], list[str]]:
    """Cells and commands of the JSON file beside a table.

    Raises:
      UserError: it cannot be read, or is another file.
    """
    try:
        known = json.loads(as_path(path).read_text(encoding="utf-8"))
        records = {k: dict(v) for k, v in known["settings"]["cells"].items()}
        return records, list(known["commands"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: cannot be read as a sweep's cells ({type(error).__name__}); "
            "expected the JSON file beside a sweep's table"
        ) from error


class SweepTable:
    """rows: of all cells. records: id of a cell -> its description and measurements."""

    def __init__(self, path: str | os.PathLike, command: str = "") -> None:
        """Reads what is there already, and tries whether it can be written.

        path: of the CSV. command: what was typed, kept beside the rows.

        Raises:
          UserError: the place cannot be written, or holds rows that no sweep wrote.
        """
        self.path = as_path(path)
        self.records_path = self.path.with_suffix(".json")
        if self.records_path == self.path:
            raise UserError(f"table {str(path)!r}: expected the ending .csv")
        atomic.probe(self.path)
        self.rows: list[EpisodeResult] = []
        self.records: dict[str, dict[str, Any]] = {}
        self._commands: list[str] = []
        if self.records_path.exists():
            self.records, self._commands = read_records(self.records_path)
        if self.path.exists():
            self.rows = read_results(self.path)
        for row in self.rows:
            if row.extra.get(CELL) not in self.records:
                raise UserError(
                    f"table {str(path)!r}: a row of {row.task}/{row.algo} names no "
                    f"cell that {self.records_path.name} knows; expected a sweep's "
                    "table"
                )
        if command and command not in self._commands:
            self._commands.append(command)

    def id_of(self, cell: Cell) -> str:
        """The name that the table has, or would have, for a cell.

        Raises:
          UserError: its place in the table is taken by other settings.
        """
        mine = cell.description()
        for name, record in self.records.items():
            if list(record["place"]) != list(cell.place):
                continue
            try:
                theirs = normalised(record["description"])
            except (UserError, KeyError, TypeError):
                theirs = record.get("description", {})
            if theirs != mine:
                where = config_lib.first_difference(theirs, mine)
                raise UserError(
                    f"{cell}: {self.path} has it with other settings (first difference:"
                    f" {where}); expected another name for the method, or another table"
                )
            return name
        return cell.id

    def rows_of(self, name: str) -> list[EpisodeResult]:
        """Rows of the cell with that id."""
        return [row for row in self.rows if row.extra.get(CELL) == name]

    def note(self, cell: Cell, name: str, found: dict[str, Any]) -> None:
        """Keeps what is known of a cell; nothing is written before `absorb` or `save`.

        found: plain values such as what its stages took; what they do not name stays.
        """
        old = self.records.get(name, {})
        measured = old.get("measured", {}) | found.get("measured", {})
        # As it was first described: its id is a hash of that.
        first = {"place": list(cell.place), "description": cell.description()}
        self.records[name] = first | old | found | {"measured": measured}

    def absorb(self, name: str, rows: Sequence[EpisodeResult], *, final: bool) -> int:
        """Puts the rows of a cell in, and writes the table.

        Rows of another checkpoint give way, together: once the new ones are all that
        the old ones were, or `final`.

        Returns:
          How many rows of another checkpoint went.
        """
        if not rows:
            return 0
        new = {key_of(row): row for row in rows}
        old = {key_of(row): row for row in self.rows_of(name)}
        lost = 0
        if checkpoint_of(rows) == checkpoint_of(list(old.values())):
            new = old | new
        elif old.keys() - new.keys() and not final:
            return 0
        else:
            lost = len(old)
        if new == old:
            return 0
        others = [row for row in self.rows if row.extra.get(CELL) != name]
        ordered = sorted(new.values(), key=lambda r: (r.shift, r.episode_seed))
        self.rows = sorted([*others, *ordered], key=_order)
        self.save()
        return lost

    def save(self) -> None:
        """Writes cells, then rows: a row without its cell would say nothing."""
        known = {"settings": {"cells": self.records}, "commands": self._commands}
        atomic.write_text(self.records_path, json.dumps(known, indent=1) + "\n")
        if self.rows:
            write_results(self.path, self.rows)


def _order(row: EpisodeResult) -> tuple:
    """Cells lie together, so that versions of a table differ in few places."""
    return row.task, row.algo, row.train_seed
