"""Small fitted things in one file: npz arrays and a line of JSON, no pickle."""

import json
import os
import zipfile
from typing import Any

import numpy as np

from sas_jax.errors import UserError
from sas_jax.files.atomic import replacing
from sas_jax.files.places import fetched


def write(path: str | os.PathLike, arrays: dict[str, Any], meta: dict) -> None:
    """Writes both; the file appears whole or not at all.

    arrays: by name, none of them "meta". meta: plain values, with "format".

    Raises:
      UserError: the folder cannot be written.
    """
    found = {name: np.asarray(value) for name, value in arrays.items()}
    found["meta"] = np.array(json.dumps(meta))
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **found)


def read(
    path: str | os.PathLike, kind: str, known: str, writer: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All arrays but the description, and the description.

    Args:
      kind: what the file holds, for messages. known: the format that is read.
      writer: who writes such files.

    Raises:
      UserError: no such file, not one of that kind, or of another format.
    """
    if not os.path.isfile(path):
        raise UserError(f"{kind} {str(path)!r}: no such file; expected a .npz file")
    try:
        with fetched(path) as copy, np.load(copy, allow_pickle=False) as file:
            arrays = dict(file)
        meta = json.loads(str(arrays.pop("meta")))
        found = meta["format"]
    except (
        AttributeError,
        EOFError,
        KeyError,
        OSError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:
        raise UserError(
            f"{kind} {str(path)!r}: not a {kind}'s file; expected one that {writer} "
            "wrote"
        ) from error
    if found != known:
        raise UserError(f"{kind} {str(path)!r}: format {found!r}; expected {known!r}")
    return arrays, meta


def check(
    path: str | os.PathLike,
    kind: str,
    arrays: dict[str, np.ndarray],
    name: str,
    shape: tuple[int, ...],
) -> None:
    """UserError unless the array is there, of this shape, float32 and finite."""
    if name not in arrays:
        raise UserError(f"{kind} {str(path)!r}: no array {name!r}; expected one")
    array = arrays[name]
    if array.shape != shape or array.dtype != np.float32:
        raise UserError(
            f"{kind} {str(path)!r}: {name} is {array.dtype}{list(array.shape)}; "
            f"expected float32{list(shape)}"
        )
    if not np.isfinite(array).all():
        raise UserError(
            f"{kind} {str(path)!r}: {name} has NaN or infinity; expected finite numbers"
        )
