"""A results table that grows, beside it the settings that made its rows.

FILE.csv has the rows, FILE.json the settings that all of them share and the commands
that were typed. A second run with the same settings adds what is not there yet; one
with other settings is refused, since its rows would look like the first one's.
"""

import json
import os
from collections.abc import Sequence
from typing import Any

from sas_jax import config as config_lib
from sas_jax.errors import UserError
from sas_jax.files import atomic
from sas_jax.files.places import as_path
from sas_jax.files.results import EpisodeResult, read_results, write_results


class ResultsFile:
    """rows: what the file held when it was opened, or was last written."""

    def __init__(
        self,
        path: str | os.PathLike,
        settings: dict[str, Any],
        command: str,
        *,
        optional: tuple[str, ...] = (),
    ):
        """Reads what is there already, and tries whether it can be written.

        Args:
          path: of the CSV. settings: plain values that all of its rows share.
          command: what was typed; kept beside the settings.
          optional: settings that None leaves open, as a critic of variants without one.

        Raises:
          UserError: the place cannot be written, or holds rows of other settings, or
            rows whose settings are not known.
        """
        self.path = as_path(path)
        self.settings_path = self.path.with_suffix(".json")
        if self.settings_path == self.path:
            raise UserError(f"results file {str(path)!r}: expected the ending .csv")
        atomic.probe(self.path)
        self._settings = json.loads(json.dumps(settings))
        self._commands: list[str] = []
        self._is_noted = False
        self.rows: list[EpisodeResult] = []
        if self.path.exists():
            self._take_up(optional)
        if command not in self._commands:
            self._commands.append(command)

    def _take_up(self, optional: tuple[str, ...]) -> None:
        """Rows and commands of the file that is there, if they are of one kind."""
        try:
            saved = json.loads(self.settings_path.read_text(encoding="utf-8"))
            theirs, self._commands = saved["settings"], list(saved["commands"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"results file {str(self.path)!r}: what its rows were made with is not "
                f"known (no {self.settings_path.name} of ours beside it); expected "
                "another file for new rows, or that one moved away"
            ) from error
        for name in optional:
            mine, other = self._settings.get(name), theirs.get(name)
            if mine is None and other is not None:
                self._settings[name] = other
            elif other is None and mine is not None:
                theirs[name] = mine
        if theirs != self._settings:
            key = config_lib.first_difference(theirs, self._settings)
            raise UserError(
                f"results file {str(self.path)!r} holds rows of other settings (first "
                f"difference: {key}); expected another file for these"
            )
        self.rows = read_results(self.path)

    def write(self, rows: Sequence[EpisodeResult]) -> None:
        """Puts `rows`, old ones included, in the file's place; settings go first."""
        if not self._is_noted:
            known = {"settings": self._settings, "commands": self._commands}
            atomic.write_text(self.settings_path, json.dumps(known, indent=1) + "\n")
            self._is_noted = True
        write_results(self.path, rows)
        self.rows = list(rows)
