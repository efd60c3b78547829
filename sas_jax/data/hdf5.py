"""Careful access to HDF5 files of unknown origin, and atomic creation of our own.

Nothing here knows the DSRL layout. Every failure of the file is a `UserError`; sizes
are believed only after they agree with the bytes that the file really stores.
"""

import contextlib
import math
import os
import pathlib
from collections.abc import Iterable, Iterator

import h5py
import numpy as np

from sas_jax.errors import UserError

# What libhdf5 and h5py raise on damaged content (besides OSError: bad free-space
# tables give RuntimeError, bad type or name encodings ValueError/TypeError/KeyError).
_DAMAGE = (OSError, RuntimeError, ValueError, TypeError, KeyError, OverflowError)
# DEFLATE cannot expand a byte to more than 1032 (zlib's technical notes); other filters
# of libhdf5 expand less. More is a forged size.
_MAX_EXPANSION = 1032


@contextlib.contextmanager
def open_file(path: str | os.PathLike) -> Iterator[h5py.File]:
    """Opens a file for reading. Raises UserError if there is none or it is damaged."""
    path = pathlib.Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file; expected an HDF5 file in DSRL's layout")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; expected an HDF5 file in DSRL's layout")
    try:
        with open(path, "rb") as raw:
            raw.read(1)
        if not h5py.is_hdf5(path):
            raise UserError(f"{path}: not an HDF5 file ({path.stat().st_size} bytes)")
        file = h5py.File(path, "r")
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read: permission denied") from error
    except OSError as error:
        raise _damaged(f"{path}", error) from error
    with file:
        yield file


@contextlib.contextmanager
def create_file(path: pathlib.Path) -> Iterator[h5py.File]:
    """Opens a new file that takes its name only when the block ends without error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(temporary, "w") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise UserError(f"{path}: cannot be written ({reason})") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_dataset(group: h5py.Group, key: str, where: str) -> h5py.Dataset:
    """Returns a numeric data set whose claimed size the stored bytes can fill.

    Args:
      group: file or group to look in.
      key: name of the data set.
      where: start of error messages, e.g. ``"file.hdf5: "``.

    Raises:
      UserError: missing, a group, a link to another file, not real numbers, virtual or
        external storage, or claiming more than is stored.
    """
    try:
        return _check_dataset(group, key, where)
    except UserError:
        raise
    except _DAMAGE as error:
        raise _damaged(f"{where}{key!r}", error) from error


def _check_dataset(group: h5py.Group, key: str, where: str) -> h5py.Dataset:
    """`check_dataset` without the translation of libhdf5's errors."""
    link = group.get(key, getlink=True) if key in group else None
    if link is None:
        present = ", ".join(sorted(group)[:12]) or "none"
        raise UserError(f"{where}key {key!r} is missing; keys present: {present}")
    if not isinstance(link, h5py.HardLink):
        raise UserError(f"{where}{key!r} is a link, expected a data set in this file")
    dataset = group[key]
    if not isinstance(dataset, h5py.Dataset):
        kind = type(dataset).__name__.lower()
        raise UserError(f"{where}{key!r} is a {kind}, expected an array of numbers")
    if dataset.shape is None or dataset.dtype.kind not in "fiub" or dataset.dtype.shape:
        raise UserError(f"{where}{key!r} has type {dataset.dtype}, expected numbers")
    if dataset.is_virtual or dataset.external:
        raise UserError(f"{where}{key!r} keeps its values in other files")
    _check_storage(dataset, f"{where}{key!r}")
    return dataset


def _check_storage(dataset: h5py.Dataset, name: str) -> None:
    """Raises UserError if the claimed shape exceeds what the file stores."""
    claimed = math.prod(dataset.shape) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    if stored > os.path.getsize(dataset.file.filename):
        raise UserError(f"{name} claims to store more bytes than the file has")
    if dataset.chunks is None or not dataset.id.get_create_plist().get_nfilters():
        # Chunks may stick out beyond the array, so stored may exceed claimed.
        is_filled = stored >= claimed
    else:
        per_axis = zip(dataset.shape, dataset.chunks, strict=True)
        num_chunks = math.prod(-(-size // chunk) for size, chunk in per_axis)
        is_filled = (
            claimed <= stored * _MAX_EXPANSION
            and dataset.id.get_num_chunks() == num_chunks
        )
    if not is_filled:
        raise UserError(
            f"{name} claims shape {dataset.shape} ({claimed:.3g} bytes) but only "
            f"{stored} bytes are stored"
        )
    available = _available_memory()
    if available is not None and claimed > available:
        raise UserError(
            f"{name} needs {claimed:.3g} bytes, but {available:.3g} bytes of memory "
            "are available"
        )


def _available_memory() -> int | None:
    """Bytes that can be allocated without swapping; None where Linux does not say."""
    with (
        contextlib.suppress(OSError, ValueError, IndexError),
        open("/proc/meminfo") as lines,
    ):
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def row_blocks(
    dataset: h5py.Dataset, num_rows: int, block_bytes: int
) -> Iterator[slice]:
    """Yields slices that cover rows 0 .. num_rows - 1.

    Blocks begin at chunk borders: otherwise a compressed chunk that two blocks share
    would be decompressed twice.
    """
    row_bytes = max(1, math.prod(dataset.shape[1:])) * max(4, dataset.dtype.itemsize)
    size = max(1, block_bytes // row_bytes)
    if dataset.chunks is not None:
        size = max(1, size // dataset.chunks[0]) * dataset.chunks[0]
    for start in range(0, num_rows, size):
        yield slice(start, min(start + size, num_rows))


def read_block(dataset: h5py.Dataset, rows: slice, path: str, key: str) -> np.ndarray:
    """Reads some rows in the stored type; damage is a `UserError` naming the rows."""
    try:
        return dataset[rows]
    except _DAMAGE as error:
        raise _unreadable(path, key, rows, error) from error


def read_float32(
    dataset: h5py.Dataset, rows: slice, out: np.ndarray, path: str, key: str
) -> None:
    """Reads rows into `out` (float32, same shape as the rows) and checks the values.

    Raises:
      UserError: unreadable rows, or a value that is not finite as float32.
    """
    try:
        if dataset.dtype.kind == "b":  # HDF5 has no conversion from its bool to floats
            out[...] = dataset[rows]
        else:
            dataset.read_direct(out, np.s_[rows])
    except _DAMAGE as error:
        raise _unreadable(path, key, rows, error) from error
    # One pass without a temporary of the block's size: a sum is finite unless a term
    # is not, or it overflows; only then look at every value.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.dot(out.reshape(-1), out.reshape(-1))):
            return
    wrong = np.argwhere(~np.isfinite(out))
    if len(wrong):
        row, *column = wrong[0]
        at = f", column {column[0]}" if column else ""
        raise UserError(
            f"{path}: {key!r} is {out[tuple(wrong[0])]} in row {rows.start + row}{at}, "
            "expected a finite float32"
        )


def write_blocks(
    file: h5py.File, key: str, blocks: Iterable[np.ndarray], num_rows: int
) -> None:
    """Writes a data set of `num_rows` rows from consecutive pieces, compressed.

    Chunks hold whole rows, about 256 KiB of them: readers go through files by rows.
    """
    dataset, start = None, 0
    for block in blocks:
        if dataset is None:
            row_bytes = block[0].nbytes
            rows = int(np.clip((256 << 10) // row_bytes, 1, num_rows))
            dataset = file.create_dataset(
                key,
                shape=(num_rows, *block.shape[1:]),
                dtype=block.dtype,
                chunks=(rows, *block.shape[1:]),
                compression="gzip",
                compression_opts=1,
                shuffle=True,
            )
        dataset[start : start + len(block)] = block
        start += len(block)
    if start != num_rows:
        raise ValueError(f"{key}: {start} rows written, expected {num_rows}")


def read_attribute(file: h5py.File, name: str) -> str | int | None:
    """Returns a root attribute: fixed-length string or integer; None if there is none.

    Strings of variable length are passed over: they lie in a global heap, and libhdf5
    (2.0.0) loops for ever on a damaged one.
    """
    try:
        if name not in file.attrs:
            return None
        kind, shape = file.attrs.get_id(name).dtype.kind, file.attrs.get_id(name).shape
        if kind not in "Siu" or shape != ():
            return None
        value = file.attrs[name]
    except _DAMAGE as error:
        raise _damaged(f"{file.filename}: attribute {name!r}", error) from error
    return value.decode("utf-8", "replace") if kind == "S" else int(value)


def write_attribute(file: h5py.File, name: str, value: object) -> None:
    """Writes an attribute of the root, strings in a form `read_attribute` reads."""
    file.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value


def _damaged(what: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    kind = "truncated" if "truncated" in reason else "damaged"
    return UserError(f"{what}: {kind} HDF5 file ({reason})")


def _unreadable(path: str, key: str, rows: slice, error: Exception) -> UserError:
    where = f"{path}: {key!r}, rows {rows.start} to {rows.stop - 1}"
    return _damaged(where, error)
