"""Rows of names and values as a CSV file, whole or not at all."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

from sas_jax.files import atomic


def text_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows below a line of all their names, in the order of their first use.

    What a row has no value for stays empty.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the rows to `path`, atomically.

    Raises:
      UserError: a file that cannot be written.
    """
    atomic.write_text(path, text_of(rows))
