"""Result rows as a Parquet file, for tools that read many of them."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from sas_jax.errors import UserError
from sas_jax.files.atomic import replacing
from sas_jax.files.places import as_path
from sas_jax.files.results import EpisodeResult

_TYPES = {float: "double", int: "int64", bool: "bool", str: "string"}


def write_parquet(path: str | os.PathLike, rows: Sequence[EpisodeResult]) -> Path:
    """Writes rows atomically, a column an attribute and one for each of `extra`.

    The CSV remains the table that is read back.

    Raises:
      UserError: no pyarrow, or the file cannot be written.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "Parquet needs pyarrow; expected the extra: pip install '.[parquet]'"
        ) from error
    columns = {
        field.name: pyarrow.array(
            [getattr(row, field.name) for row in rows], _TYPES[field.type]
        )
        for field in dataclasses.fields(EpisodeResult)
        if field.name != "extra"
    }
    for name in sorted({name for row in rows for name in row.extra}):
        texts = [row.extra.get(name, "") for row in rows]
        columns[name] = pyarrow.array(texts, "string")
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.table(columns), temporary)
    return as_path(path)
