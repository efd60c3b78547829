"""A folder for one process at a time."""

import contextlib
import errno
import os
import socket
from pathlib import Path

from sas_jax.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None

_TAKEN = {errno.EACCES, errno.EAGAIN}


class FolderLock:
    """Held until `release`, or until the process ends, however it ends.

    The operating system keeps the lock, not the file: one that a killed process left
    behind locks nothing. File systems without locks, as some network mounts are, are
    used without.
    """

    def __init__(self, folder: str | os.PathLike, work: str):
        """Takes the lock. work: what the folder is for, e.g. "training".

        Raises:
          UserError: another process has it, or the folder cannot be written.
        """
        path = Path(folder) / f".{work}.lock"
        self._file = None
        try:
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (kept open)
        except OSError as error:
            raise UserError(
                f"cannot write {str(path)!r} ({error.strerror}); expected a writable "
                "folder"
            ) from error
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _TAKEN:
                file.close()
                return
            file.seek(0)
            owner = file.read().strip() or "another process"
            file.close()
            raise UserError(
                f"folder {str(folder)!r}: {work} is going on there already ({owner}); "
                "expected a folder of its own, or one whose work has ended"
            ) from error
        self._file = file
        with contextlib.suppress(OSError):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()

    def release(self) -> None:
        """Lets others have the folder; calling it again does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None
