"""Careful access to HDF5 files of unknown origin, and atomic creation of our own.

Nothing here knows the DSRL layout. Every failure of the file is a `UserError`; sizes
are believed only after they agree with the bytes that the file really stores.
"""

import contextlib
import errno
import math
import os
import pathlib
import re
from collections.abc import Iterable, Iterator

import h5py
import numpy as np

from sas_jax.data import hdf5_heaps
from sas_jax.errors import UserError
from sas_jax.files import atomic, places

# What libhdf5 and h5py raise on damaged content (besides OSError: bad free-space
# tables give RuntimeError, bad type or name encodings ValueError/TypeError/KeyError).
_DAMAGE = (OSError, RuntimeError, ValueError, TypeError, KeyError, OverflowError)
# DEFLATE cannot expand a byte to more than 1032 (zlib's technical notes); other filters
# of libhdf5 expand less. More is a forged size.
_MAX_EXPANSION = 1032
# Values below this size are finite when squared and summed in float32. What an
# environment reports lies many orders of magnitude below.
LARGEST = 1e10
# Soft links may point to soft links; more than this many are a circle.
_MAX_LINKS = 8


@contextlib.contextmanager
def open_file(path: str | os.PathLike) -> Iterator[h5py.File]:
    """Opens a file for reading.

    A file system without locks is no obstacle; a file that another process is writing
    is one, and the message says so.

    Raises:
      UserError: no such file, not HDF5, locked, damaged, or not to be read.
    """
    if places.is_url(path):
        with places.fetched(path) as copy, open_file(copy) as file:
            yield file
        return
    path = places.as_path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file; expected an HDF5 file in DSRL's layout")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; expected an HDF5 file in DSRL's layout")
    try:
        with open(path, "rb") as raw:
            raw.read(1)
        if not h5py.is_hdf5(path):
            raise UserError(f"{path}: not an HDF5 file ({path.stat().st_size} bytes)")
        file = _open(path)
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read: permission denied") from error
    except OSError as error:
        raise _failure(f"{path}", error) from error
    with file:
        yield file


def _open(path: pathlib.Path) -> h5py.File:
    """Opens with a lock against writers, where the file system has locks.

    Who holds a file open already must be followed in how it was locked.
    """
    for locking in (None, "best-effort", True):
        try:
            return h5py.File(path, "r", locking=locking)
        except OSError as error:
            without = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
            is_other = "flag values don't match" in str(error)
            if _os_errno(error) not in without and not is_other:
                raise
    return h5py.File(path, "r", locking=False)


@contextlib.contextmanager
def create_file(path: pathlib.Path) -> Iterator[h5py.File]:
    """Opens a new file that takes its name only when the block ends without error."""
    if places.is_url(path):
        with atomic.replacing(path) as temporary, h5py.File(temporary, "w") as file:
            yield file
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # No lock: nobody else knows the temporary name, and not every file system that
        # can be written has locks.
        with h5py.File(temporary, "w", locking=False) as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise UserError(f"{path}: cannot be written ({reason})") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_dataset(
    group: h5py.Group, key: str, where: str, *, may_be_unwritten: bool = False
) -> h5py.Dataset:
    """Returns a numeric data set whose claimed size the stored bytes can fill.

    Soft links are followed within the file.

    Args:
      group: file or group to look in.
      key: name of the data set.
      where: start of error messages, e.g. ``"file.hdf5: "``.
      may_be_unwritten: accept a data set of which nothing, or only a part, was written:
        HDF5 reads its fill value there. Its size is then believed unseen, so compare it
        with that of a stored one before anything is read.

    Raises:
      UserError: missing, a group, a link that leads nowhere or out of the file, not
        real numbers, virtual or external storage, or claiming more than is stored.
    """
    try:
        return _check_dataset(group, key, where, may_be_unwritten)
    except UserError:
        raise
    except _DAMAGE as error:
        raise _failure(f"{where}{key!r}", error) from error


def _check_dataset(group, key, where, may_be_unwritten) -> h5py.Dataset:
    """`check_dataset` without the translation of libhdf5's errors."""
    if group.get(key, getlink=True) is None:
        present = ", ".join(sorted(group)[:12]) or "none"
        raise UserError(f"{where}key {key!r} is missing; keys present: {present}")
    dataset = _follow(group, key, f"{where}{key!r}")
    if not isinstance(dataset, h5py.Dataset):
        kind = type(dataset).__name__.lower()
        raise UserError(f"{where}{key!r} is a {kind}, expected an array of numbers")
    if dataset.shape is None or dataset.dtype.kind not in "fiub" or dataset.dtype.shape:
        raise UserError(f"{where}{key!r} has type {dataset.dtype}, expected numbers")
    if dataset.is_virtual or dataset.external:
        raise UserError(f"{where}{key!r} keeps its values in other files")
    _check_storage(dataset, f"{where}{key!r}", may_be_unwritten)
    return dataset


def _follow(group: h5py.Group, path: str, name: str):
    """The object at `path`, link by link, so that none leads into another file."""
    waiting, seen = path.strip("/").split("/"), 0
    node = group
    while waiting:
        part = waiting.pop(0)
        if part in ("", "."):
            continue
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if isinstance(link, h5py.HardLink):
            node = node[part]
        elif isinstance(link, h5py.SoftLink) and seen < _MAX_LINKS:
            seen += 1
            waiting = link.path.split("/") + waiting
            node = node.file if link.path.startswith("/") else node
        elif seen and not isinstance(link, h5py.ExternalLink):
            raise UserError(f"{name} is a link that leads to nothing in this file")
        else:
            raise UserError(f"{name} is a link, expected a data set in this file")
    return node


def names(group: h5py.Group, where: str) -> list[str]:
    """Names in a file or group; UserError where it is damaged. where: its name."""
    try:
        return list(group)
    except _DAMAGE as error:
        raise _failure(where, error) from error


def is_written(dataset: h5py.Dataset) -> bool:
    """Whether all values are stored; the others read as the fill value."""
    if dataset.chunks is None:
        return dataset.id.get_storage_size() > 0 or dataset.size == 0
    per_axis = zip(dataset.shape, dataset.chunks, strict=True)
    num_chunks = math.prod(-(-size // chunk) for size, chunk in per_axis)
    return dataset.id.get_num_chunks() == num_chunks


def _check_storage(dataset: h5py.Dataset, name: str, may_be_unwritten: bool) -> None:
    """Raises UserError if the claimed shape exceeds what the file stores."""
    claimed = math.prod(dataset.shape) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    if stored > os.path.getsize(dataset.file.filename):
        raise UserError(f"{name} claims to store more bytes than the file has")
    if dataset.chunks is None or not dataset.id.get_create_plist().get_nfilters():
        # Chunks may stick out beyond the array, so stored may exceed claimed.
        is_filled = stored >= claimed
    else:
        is_filled = claimed <= stored * _MAX_EXPANSION and is_written(dataset)
    plist = dataset.id.get_create_plist()
    has_fill = plist.fill_value_defined() != h5py.h5d.FILL_VALUE_UNDEFINED
    may_be_unwritten = may_be_unwritten and has_fill and not is_written(dataset)
    if not is_filled and not may_be_unwritten:
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
        raise _unreadable(dataset, path, key, rows, error) from error


def read_float32(
    dataset: h5py.Dataset, rows: slice, out: np.ndarray, path: str, key: str
) -> None:
    """Reads rows into `out` (float32, same shape as the rows) and checks the values.

    Raises:
      UserError: unreadable rows, or a value that is not finite as float32 or beyond
        `LARGEST`, where squares and sums of a column drown all others.
    """
    try:
        if dataset.dtype.kind == "b":  # HDF5 has no conversion from its bool to floats
            out[...] = dataset[rows]
        else:
            dataset.read_direct(out, np.s_[rows])
    except _DAMAGE as error:
        raise _unreadable(dataset, path, key, rows, error) from error
    # One pass without a temporary of the block's size: where the sum of squares is
    # small, no value is large or not finite; only else look at every value.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.dot(out.reshape(-1), out.reshape(-1)) <= LARGEST**2:
            return
    wrong = np.argwhere(~(np.abs(out) <= LARGEST))
    if len(wrong):
        row, *column = wrong[0]
        at = f", column {column[0]}" if column else ""
        raise UserError(
            f"{path}: {key!r} is {out[tuple(wrong[0])]:g} in row {rows.start + row}"
            f"{at}; expected finite numbers of at most {LARGEST:g} in size"
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
    """Returns a root attribute: a string or an integer; None if there is none.

    Strings may be of fixed or variable length, bytes or text, alone or an array of
    one. Strings of variable length lie in a global heap, and libhdf5 (2.0.0) loops for
    ever on a damaged one; so they are read only when all heaps of the file are sound.
    """
    try:
        if name not in file.attrs:
            return None
        attribute = file.attrs.get_id(name)
        is_text = attribute.dtype.kind == "S" or h5py.check_string_dtype(
            attribute.dtype
        )
        if not is_text and attribute.dtype.kind not in "iu":
            return None
        if attribute.shape is None or math.prod(attribute.shape) != 1:
            return None
        if attribute.dtype.kind == "O" and not hdf5_heaps.are_sound(file):
            raise UserError(
                f"{file.filename}: attribute {name!r}: damaged HDF5 file (a heap of "
                "strings is not whole)"
            )
        value = np.asarray(file.attrs[name]).reshape(-1)[0]
    except UserError:
        raise
    except _DAMAGE as error:
        raise _failure(f"{file.filename}: attribute {name!r}", error) from error
    if not is_text:
        return int(value)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def write_attribute(file: h5py.File, name: str, value: object) -> None:
    """Writes an attribute of the root, strings in a form `read_attribute` reads."""
    file.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value


def _os_errno(error: Exception) -> int | None:
    """The operating system's error number; libhdf5 puts it into its message."""
    if getattr(error, "errno", None) is not None:
        return error.errno
    found = re.search(r"errno = (\d+)", str(error))
    return int(found[1]) if found else None


def _failure(what: str, error: Exception) -> UserError:
    """What libhdf5's or the system's error means, in one line."""
    reason, code = " ".join(str(error).split()), _os_errno(error)
    if "unable to lock file" in reason or "already open for write" in reason:
        return UserError(
            f"{what}: another process writes to this file ({reason}); expected one "
            "that is closed: wait for the writer, or, if it died, run h5clear -s"
        )
    if code is not None and code not in (0, errno.EINVAL):
        return UserError(f"{what}: cannot be read: {os.strerror(code)}")
    kind = "truncated" if "truncated" in reason else "damaged"
    return UserError(f"{what}: {kind} HDF5 file ({reason})")


def _unreadable(dataset, path: str, key: str, rows: slice, error) -> UserError:
    where = f"{path}: {key!r}, rows {rows.start} to {rows.stop - 1}"
    plist = dataset.id.get_create_plist()
    for index in range(plist.get_nfilters()):
        number, _, _, name = plist.get_filter(index)
        if not h5py.h5z.filter_avail(number):
            name = name.decode("utf-8", "replace") or "without a name"
            return UserError(
                f"{path}: {key!r} is compressed by filter {number} ({name}), which "
                "this HDF5 does not have; save the file with gzip, or let "
                "$HDF5_PLUGIN_PATH name the plugin's folder (package hdf5plugin)"
            )
    return _failure(where, error)
