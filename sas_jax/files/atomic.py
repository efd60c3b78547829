"""Files that are either written whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from sas_jax.errors import UserError


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it takes `path`'s place.

    The parent folder is made. If the body raises, `path` keeps what it held and the
    temporary file is removed. Raises `UserError` if the folder cannot be written.
    """
    path = Path(path)
    # The suffix stays last: image writers choose their format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except (
        FileExistsError,
        IsADirectoryError,
        NotADirectoryError,
        PermissionError,
    ) as e:
        raise UserError(
            f"cannot write {str(path)!r} ({e.strerror}); expected a writable folder"
        ) from e
    finally:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Writes `text` (UTF-8) to `path` atomically and returns the path."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)
