"""Files that are either written whole or not at all."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sas_jax.errors import UserError
from sas_jax.files.places import as_path, is_url, put


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it takes `path`'s place.

    For a URL the temporary file lies on this machine, and is put there at the end.

    The parent folder is made. If the body raises, `path` keeps what it held and the
    temporary file is removed. Raises `UserError` if the file cannot be written: no
    rights, a file where a folder should be, a read-only or full disk.
    """
    path = as_path(path)
    if is_url(path):
        with tempfile.TemporaryDirectory(prefix="sas_jax_") as folder:
            yield Path(folder) / path.name
            put(Path(folder) / path.name, path)
        return
    # The suffix stays last: image writers choose their format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        # A file that the body reads and that is not there is no fault of the disk.
        if isinstance(error, FileNotFoundError) or error.errno is None:
            raise
        raise _cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> UserError:
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    wanted = "free space" if is_full else "a writable folder"
    return UserError(
        f"cannot write {str(path)!r} ({error.strerror}); expected {wanted}"
    )


def probe(path: str | os.PathLike) -> None:
    """Raises `UserError` now where `replacing(path)` would later; leaves no trace.

    For long work, whose result should not be lost for a folder that was never writable.
    """
    path = as_path(path)
    if is_url(path):
        # A bucket answers rights by account, not by folder: write, and take it back.
        trial = path.with_name(f".{path.name}.{os.getpid()}.probe")
        with replacing(trial) as temporary:
            temporary.write_bytes(b"\0")
        with contextlib.suppress(Exception):
            trial.unlink()
        return
    made = [folder for folder in path.parents if not folder.exists()]
    if path.is_dir():
        raise UserError(f"cannot write {str(path)!r}: is a folder; expected a file")
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(b"\0")
            raise _Enough
    except _Enough:
        pass
    finally:
        for folder in made:  # the innermost first
            with contextlib.suppress(OSError):
                folder.rmdir()


class _Enough(Exception):
    """Leaves `replacing` before the file is replaced."""


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Writes `text` (UTF-8) to `path`, file or URL, atomically; returns the path."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return as_path(path)
