"""Reading a CSV of ours back, also after a spreadsheet has saved it.

Spreadsheets put a byte-order mark in front, part columns by semicolons or tabs, write
decimal commas, and leave rows of separators behind. Numbers come back as ours have
them; what is no table is one line.
"""

import csv
import os
import re

from sas_jax.errors import UserError
from sas_jax.files.places import fetched

_DECIMAL_COMMA = re.compile(r"-?\d+,\d+([eE][-+]?\d+)?$")


def read_log(path: str | os.PathLike) -> list[dict[str, str]]:
    """Rows of a table with a `step` column, text by column; empty cells stay empty.

    Raises:
      UserError: it cannot be read, has no column `step`, or a step that is no whole
        number; names the row.
    """
    try:
        with (
            fetched(path) as copy,
            open(copy, newline="", encoding="utf-8-sig") as file,
        ):
            head = file.readline()
            file.seek(0)
            # The mark is skipped at the very start only.
            parts = {sep: head.count(sep) for sep in ",;\t"}
            separator = max(parts, key=parts.__getitem__)
            rows = list(csv.reader(file, delimiter=separator))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason}); expected a CSV") from error
    names = [name.strip().lstrip("\ufeff") for name in rows[0]] if rows else []
    if "step" not in names:
        raise UserError(
            f"{path}: no column 'step' in its first row; expected the curves of a "
            "training"
        )
    found = []
    for number, cells in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in cells):
            continue
        cells = [_number(cell.strip(), separator) for cell in cells]
        row = dict(zip(names, cells, strict=False))
        row.pop("", None)
        try:
            step = float(row["step"])
            if step != int(step):
                raise ValueError
        except (ValueError, KeyError, OverflowError):
            raise UserError(
                f"{path}: row {number}: step {row.get('step', '')!r}; expected a whole "
                "number (move the file away to go on without its curves)"
            ) from None
        found.append(row | {"step": str(int(step))})
    return found


def _number(cell: str, separator: str) -> str:
    """A cell with a decimal point, where a comma can be nothing else."""
    if separator != "," and _DECIMAL_COMMA.match(cell):
        return cell.replace(",", ".")
    return cell
