"""Where files lie: a path of this machine, or a URL of a bucket.

Buckets (``gs://``, ``s3://``, ``az://``, ``hf://``) are what the hosts of a TPU pod
have in common. They are reached through `etils.epath` and fsspec, whose client for the
scheme must be installed, e.g. gcsfs. Files that need the operating system, such as
HDF5's, are fetched whole to this machine and put whole.
"""

import contextlib
import importlib.util
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sas_jax.errors import UserError

# Scheme -> packages that reading and writing there need, all of them.
SCHEMES = {
    "gs": ("gcsfs", "google.cloud.storage"),
    "s3": ("s3fs",),
    "az": ("adlfs",),
    "hf": ("huggingface_hub",),
}


def is_url(path: str | os.PathLike) -> bool:
    """Whether a path is a URL of any scheme."""
    return bool(re.match(r"[a-z][a-z0-9+.-]+:/", os.fspath(path), re.IGNORECASE))


def known_url(url: str | os.PathLike) -> str:
    """A URL in its usual form; UserError for a scheme that is not in `SCHEMES`."""
    text = re.sub(r"^([a-zA-Z0-9+.-]*):/+", lambda m: f"{m[1].lower()}://", str(url))
    if text.partition("://")[0] not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise UserError(f"{text}: expected a path of this machine, or a URL of {known}")
    return text


def as_path(path: str | os.PathLike) -> Path:
    """A `pathlib.Path`, or for a URL an `epath.Path`, which has the same methods.

    Home folders are expanded.

    Raises:
      UserError: a URL of another scheme, or one whose client is not installed.
    """
    if not is_url(path):
        return Path(os.path.expanduser(path))
    text = known_url(path)
    scheme = text.partition("://")[0]
    missing = [name for name in SCHEMES[scheme] if not _is_installed(name)]
    if missing:
        packages = " ".join(name.replace(".", "-") for name in missing)
        raise UserError(
            f"{text}: {scheme}:// needs packages that are not installed; expected pip "
            f"install {packages}"
        )
    from etils import epath

    return epath.Path(text)


def _is_installed(name: str) -> bool:
    """Whether a module can be imported; its parents are, to find out."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # no parent, or one that is no package
        return False


@contextlib.contextmanager
def fetched(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a path of this machine with the content of a file, which may be a URL.

    A copy is deleted when the block ends.

    Raises:
      UserError: no such file behind the URL, or one that cannot be read.
    """
    place = as_path(path)
    if not is_url(place):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="sas_jax_") as folder:
        copy = Path(folder) / place.name
        try:
            with place.open("rb") as source, open(copy, "wb") as target:
                while block := source.read(1 << 24):
                    target.write(block)
        # Clients raise errors of their own beside the operating system's.
        except Exception as error:
            raise UserError(f"{place}: cannot be read ({reason(error)})") from error
        yield copy


def put(copy: Path, path: Any) -> None:
    """Puts a file of this machine behind a URL. Buckets show a file whole or not.

    Raises:
      UserError: it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(copy, "rb") as source, path.open("wb") as target:
            while block := source.read(1 << 24):
                target.write(block)
    except Exception as error:
        raise UserError(f"cannot write {str(path)!r} ({reason(error)})") from error


def reason(error: Exception) -> str:
    """What went wrong, in a few words of one line."""
    text = getattr(error, "strerror", None) or " ".join(str(error).split())
    return text[:200] or type(error).__name__
