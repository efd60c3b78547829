"""Resolves the requirement files with uv: versions and hashes, no addresses.

    make lock                        keeps locked versions that still fit
    make lock LOCK_FLAGS=--upgrade   takes the newest that fit

Writes requirements/lock.txt (everything in .venv, for Python 3.11 and 3.12 alike),
uv.txt and pip.txt (what bootstrap.py starts from). Nothing is replaced on failure.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import bootstrap

REQUIREMENTS = bootstrap.REQUIREMENTS
EXTRAS = ("env", "export", "minari", "tensorboard", "docs", "dev")
COMPILE = [
    "pip", "compile", "--quiet", "--universal", "--python-version", "3.11",
    # One version of each package for both Pythons, so that results agree.
    "--fork-strategy", "fewest",
    "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-config",
    "--custom-compile-command", "make lock",
]  # fmt: skip


def compile_file(uv: Path, name: str, *sources: str, flags: list[str]) -> None:
    """Resolves `sources` (arguments of `uv pip compile`) into requirements/`name`.

    Raises:
        SystemExit: uv failed (its message is on stderr), or an address got through.
    """
    final = REQUIREMENTS / name
    # Indexes of this machine's configuration must not decide what others install.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("UV_", "PIP_"))}
    with tempfile.TemporaryDirectory(dir=REQUIREMENTS) as folder:
        fresh = Path(folder) / name
        if final.exists():
            shutil.copy(final, fresh)
        command = [uv, *COMPILE, *flags, *sources, "--output-file", fresh]
        if subprocess.run(command, cwd=bootstrap.ROOT, env=env).returncode != 0:
            sys.exit(f"error: {name} is unchanged; uv could not resolve it")
        bad = [line for line in fresh.read_text().splitlines() if "://" in line]
        if bad:
            sys.exit(f"error: {name} is unchanged; address in line {bad[0]!r}")
        os.replace(fresh, final)
    locked = sum("==" in line for line in final.read_text().splitlines())
    print(f"requirements/{name}: {locked} packages")


def main(flags: list[str]) -> None:
    """Resolves the three files; `flags` go to uv."""
    bootstrap.WORK.mkdir(exist_ok=True)
    uv = bootstrap.find_uv()
    if uv is None:
        sys.exit("error: make lock needs uv, which cannot be had here")
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    compile_file(
        uv, "lock.txt", "pyproject.toml", "requirements/lock.in", *extras,
        "--override", "requirements/overrides.txt", flags=flags,
    )  # fmt: skip
    compile_file(uv, "uv.txt", "requirements/uv.in", flags=flags)
    compile_file(uv, "pip.txt", "requirements/pip.in", flags=flags)


if __name__ == "__main__":
    main(sys.argv[1:])
