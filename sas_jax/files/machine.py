"""Where and with what a run was made: processor, memory, package versions, commit."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
import zlib
from pathlib import Path

from sas_jax import __version__

_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "scipy",
    "h5py",
    "mujoco",
    "safety-gymnasium",
    "gymnasium",
    "matplotlib",
    "pillow",
)


def machine_info() -> dict[str, str]:
    """Processor, usable cores, memory (limits of a container count), system, date."""
    return {
        "processor": _processor(),
        "cores": f"{usable_cores():g} usable of {os.cpu_count()}",
        "memory": f"{_memory_bytes() / 2**30:.1f} GiB",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def versions(packages: tuple[str, ...] = _PACKAGES) -> dict[str, str]:
    """Versions of the installed ones among `packages`, and of sas_jax itself."""
    found = {"sas_jax": __version__}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The checkout's commit, with ``+ changes`` if tracked files differ from it.

    None outside a git checkout of this very package (an installed wheel may well lie
    inside somebody else's repository).
    """
    here = Path(__file__).resolve()

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(here.parent), *arguments],
                capture_output=True,
                text=True,
                timeout=20,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", here.name) is None:
        return None
    commit = git("rev-parse", "--short=12", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no", ":/")
    return f"{commit} + changes" if commit and changed else commit


def programs_folder(folder: Path) -> Path:
    """Where a run's folder keeps what JAX has compiled for this machine's processor.

    JAX tells programs by text, settings and versions, and not by the instructions of
    the processor. A folder may be seen by several kinds of machines.
    """
    known = [line for line in _lines("/proc/cpuinfo") if line.startswith("flags")][:1]
    kind = " ".join([_processor(), platform.machine(), *known])
    return folder.absolute() / "compiled" / f"{zlib.crc32(kind.encode()):08x}"


def _processor() -> str:
    """Model name of the processor; Linux's cpuinfo knows it, `platform` rarely does."""
    for line in _lines("/proc/cpuinfo"):
        name, _, value = line.partition(":")
        if name.strip().lower() in ("model name", "cpu model", "hardware"):
            return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def cores() -> list[int]:
    """The cores that this process may run on, by number."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def usable_cores() -> float:
    """How many cores' time this process has; a container's quota can be a fraction."""
    count = float(len(cores()))
    for line in _lines("/sys/fs/cgroup/cpu.max"):
        quota, _, period = line.partition(" ")
        if quota != "max":
            count = min(count, int(quota) / int(period))
    return count


def _memory_bytes() -> int:
    """Installed memory, or the container's limit if that is lower."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for line in _lines("/sys/fs/cgroup/memory.max"):
        if line.strip().isdigit():
            total = min(total, int(line))
    return total


def _lines(path: str) -> list[str]:
    """Lines of a system file; none where the system has no such file."""
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
