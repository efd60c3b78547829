"""Makes the project's virtual environment from the lock file; standard library only.

    python3 scripts/bootstrap.py --stamp .venv/.ready

Needs nothing but Python 3.11 or 3.12: uv does the work where it is on PATH, otherwise
the pinned uv is installed below .bootstrap/ with pip, and where Python came without pip
and ensurepip, pip's wheel is downloaded first. Where uv cannot be had pip does all.
Every download is checked against a hash in requirements/.

A run that was killed leaves .bootstrap/installing behind; the next one then starts
from an empty environment (the downloads are still in the installer's cache).
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import package_index

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
WORK = ROOT / ".bootstrap"
LOG = WORK / "setup.log"
INSTALLING = WORK / "installing"
REQUIREMENTS = ROOT / "requirements"

# The environment takes 0.9 GB and its downloads 0.3 GB more.
MIN_FREE_BYTES = 1_500_000_000
# Below this uv knows another command line or another lock syntax.
MIN_UV = (0, 5)
# `pip --python`, with which pip serves an environment that has no pip of its own.
MIN_PIP = (22, 3)

# What can be added to the locked packages: extras of JAX at its locked version. Their
# own packages are not in the lock, as they are of one kind of machine.
EXTRAS = {"cuda": "cuda12", "tpu": "tpu"}

# What an installer says on stderr or stdout that shows where it has got to.
PROGRESS = ("Downloading", "Downloaded", "Prepared", "Installed", "Installing")
NETWORK_SIGNS = (
    "dns error", "failed to lookup", "name resolution", "error sending request",
    "connection", "network is unreachable", "timed out", "max retries",
)  # fmt: skip


class SetupError(Exception):
    """A failure of the set-up. The message is one line, for the person at the shell."""


class NetworkError(SetupError):
    """The package index cannot be reached. The installers fetch before they write."""


def run(command: list, **env: str) -> None:
    """Runs an installer, showing its progress; all it says goes to the log.

    Raises:
        SetupError: it failed; says whether disk, network or a hash is to blame.
    """
    with open(LOG, "a") as log:
        print("$", *command, file=log, flush=True)
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env=os.environ | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        lines = []
        for line in process.stdout:
            log.write(line)
            lines.append(line.strip())
            if lines[-1].startswith(PROGRESS) and len(lines[-1]) < 200:
                print(f"  {lines[-1]}", flush=True)
        if process.wait() != 0:
            raise diagnose(lines)


def diagnose(lines: list[str]) -> SetupError:
    """Returns in one line why an installer that printed `lines` failed."""
    text = "\n".join(lines).lower()
    log = f"(log: {LOG.relative_to(ROOT)})"
    free = shutil.disk_usage(ROOT).free
    if "no space left" in text or "os error 28" in text or free < 50_000_000:
        return disk_full(free)
    if "hash mismatch" in text or "do not match the hashes" in text:
        return SetupError(f"a download does not match its hash in requirements/ {log}")
    if any(sign in text for sign in NETWORK_SIGNS):
        return NetworkError(f"the package index cannot be reached; no network? {log}")
    told = [line for line in lines if line.lower().startswith(("error", "×"))]
    cause = (told or lines or ["no output"])[0][:200]
    return SetupError(f"the installer failed: {cause} {log}")


def disk_full(free: int) -> SetupError:
    """Returns the error for `free` bytes left on the project's disk."""
    return SetupError(
        f"disk full: {free / 1e9:.1f} GB free at {ROOT}; .venv and the installer's"
        " cache in the home folder need 1.5 GB"
    )


def version_of(command: list, expected: str) -> tuple[int, ...]:
    """Returns the version that `command --version` prints after `expected`, or ()."""
    with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [*map(str, command), "--version"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        words = done.stdout.split()
        if done.returncode == 0 and words[:1] == [expected]:
            return tuple(int(part) for part in words[1].split(".")[:2])
    return ()


def find_pip() -> list:
    """Returns a command that runs pip: Python's, ensurepip's, or the pinned wheel."""
    own = [sys.executable, "-m", "pip"]
    if version_of(own, "pip") >= MIN_PIP:
        return own
    venv = WORK / "pip"
    bundled = [venv / "bin/python", "-m", "pip"]
    if version_of(bundled, "pip") < MIN_PIP:
        with contextlib.suppress(SetupError):
            run([sys.executable, "-m", "venv", "--clear", venv])
    if version_of(bundled, "pip") >= MIN_PIP:
        return bundled
    try:
        wheel = package_index.fetch_wheel(REQUIREMENTS / "pip.txt", WORK)
    except package_index.FetchError as error:
        raise NetworkError(f"cannot download pip: {error}") from error
    return [sys.executable, wheel / "pip"]


def find_uv() -> Path | None:
    """Returns uv: the one on PATH, or the pinned one, installed below .bootstrap/.

    None where there is none for this platform, or none that can be downloaded.
    """
    on_path = shutil.which("uv")
    if on_path and version_of([on_path], "uv") >= MIN_UV:
        return Path(on_path)
    pin = package_index.read_pin(REQUIREMENTS / "uv.txt")
    target = WORK / f"uv-{pin.version}"
    uv = target / "bin/uv"
    if version_of([uv], "uv") >= MIN_UV:
        return uv
    shutil.rmtree(target, ignore_errors=True)
    pip = find_pip()
    print(f"installing uv {pin.version} into .bootstrap/", flush=True)
    try:
        run(
            [*pip, "install", "--target", target, "--require-hashes", "--no-deps",
             "--only-binary", ":all:", "-r", REQUIREMENTS / "uv.txt"],
            **package_index.PIP_ENV,
        )  # fmt: skip
    except NetworkError:
        raise
    except SetupError as error:
        print(f"no uv ({error}); going on with pip", flush=True)
        return None
    return uv if version_of([uv], "uv") >= MIN_UV else None


def venv_python_version() -> tuple[int, ...]:
    """Returns (major, minor) of a working .venv, or () where there is none."""
    return version_of([VENV / "bin/python"], "Python")


def install(uv: Path | None, extra: str = "") -> None:
    """Fills .venv from the lock, creating it where there is none; then adds sas_jax.

    extra: of `EXTRAS`, added at last; "" adds none.
    """
    python = VENV / "bin/python"
    fresh = not venv_python_version()
    if fresh:
        shutil.rmtree(VENV, ignore_errors=True)
    if uv:
        if fresh:
            run([uv, "venv", "--no-project", "--python", sys.executable, VENV])
        command, env = [uv, "pip", "install", "--python", python], uv_index()
    else:
        if fresh:
            run([sys.executable, "-m", "venv", "--without-pip", VENV])
        command = [*find_pip(), "--python", python, "install"]
        env = package_index.PIP_ENV
    # The lock is complete, and safety-gymnasium's own pins must not be heard: no deps.
    run(
        [*command, "--no-deps", "--require-hashes", "--only-binary", ":all:",
         "-r", REQUIREMENTS / "lock.txt"],
        **env,
    )  # fmt: skip
    run([*command, "--no-deps", "--no-build-isolation", "-e", ROOT], **env)
    if extra:
        run([*command, extra_requirement(extra)], **env)


def extra_requirement(extra: str) -> str:
    """JAX with an extra, at the version that the lock has, e.g. jax[cuda12]==0.10.2."""
    lock = (REQUIREMENTS / "lock.txt").read_text()
    (version,) = re.findall(r"^jax==(\S+)", lock, re.M)
    return f"jax[{EXTRAS[extra]}]=={version}"


def chosen_extra(given: str) -> str:
    """What was asked for now, else what the environment was set up with; "" for none.

    Raises:
        SetupError: no such extra.
    """
    if given and given not in EXTRAS:
        raise SetupError(f"EXTRA={given}; expected one of {', '.join(EXTRAS)}")
    with contextlib.suppress(OSError):
        return given or (VENV / ".extra").read_text().strip()
    return given


def uv_index() -> dict[str, str]:
    """Returns environment variables that make uv use pip's index, where one is set."""
    if {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & os.environ.keys():
        return {}
    url = package_index.configured_index()
    return {"UV_DEFAULT_INDEX": url} if url else {}


def digest(extra: str = "") -> str:
    """A hash of what .venv depends on: lock, metadata, place, machine and extra."""
    parts = hashlib.sha256(f"{ROOT} {platform.machine()}{extra}".encode())
    for path in (REQUIREMENTS / "lock.txt", ROOT / "pyproject.toml"):
        parts.update(path.read_bytes())
    return parts.hexdigest()


def set_up(stamp: Path, extra: str = "") -> None:
    """Makes .venv match the lock and touches `stamp`; does nothing where it does.

    extra: of `EXTRAS`; "" keeps what is there.
    """
    extra = chosen_extra(extra)
    if stamp.exists() and not INSTALLING.exists() and venv_python_version():
        if stamp.read_text() == digest(extra):
            stamp.touch()
            return
    started = time.monotonic()
    if INSTALLING.exists():
        print("the last set-up did not finish; starting again", flush=True)
        shutil.rmtree(VENV, ignore_errors=True)
    elif not venv_python_version():
        free = shutil.disk_usage(ROOT).free
        if free < MIN_FREE_BYTES:
            raise disk_full(free)
    LOG.unlink(missing_ok=True)
    version = platform.python_version()
    print(
        f"setting up .venv (Python {version}); the first time takes minutes", flush=True
    )
    uv = find_uv()
    INSTALLING.touch()
    try:
        install(uv, extra)
    except NetworkError:
        INSTALLING.unlink()  # .venv is as it was
        raise
    stamp.write_text(digest(extra))
    if extra:
        (VENV / ".extra").write_text(extra)
    INSTALLING.unlink()
    print(f"set up in {time.monotonic() - started:.0f} s", flush=True)


def main() -> int:
    """Parses the command line and sets up; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stamp", type=Path, default=VENV / ".ready")
    parser.add_argument("--extra", default="", help=f"one of {', '.join(EXTRAS)}")
    arguments = parser.parse_args()
    stamp = arguments.stamp.absolute()
    try:
        if not (3, 11) <= sys.version_info[:2] <= (3, 12):
            raise SetupError(
                f"Python {platform.python_version()} given; 3.11 or 3.12 expected"
            )
        WORK.mkdir(exist_ok=True)
        with open(WORK / "lock", "w") as lock:
            # `make test` and `make demo` at once: the second waits for the first.
            fcntl.flock(lock, fcntl.LOCK_EX)
            set_up(stamp, arguments.extra)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: set-up failed: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the next run starts the set-up again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
