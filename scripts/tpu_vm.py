"""Runs a command of this checkout on Cloud TPU VMs: one, or all of a pod.

    python scripts/tpu_vm.py --name=sas --zone=us-central2-b --type=v4-8 \
        --command='train --data=gs://bucket/pg1.hdf5 --workdir=gs://bucket/run'
    python scripts/tpu_vm.py --name=sas --zone=us-central2-b --type=v4-32 --hosts \
        --command='train --data=gs://bucket/pg1.hdf5 --workdir=gs://bucket/run'
    python scripts/tpu_vm.py --name=sas --zone=us-central2-b --type=v4-32 --ray \
        --command='sweep --plan=p.toml --engine=ray --cluster=auto --out=/mnt/share/s'
    python scripts/tpu_vm.py --name=sas --zone=us-central2-b --action=delete

Creates the machines where there are none, or where they were preempted, copies the
committed files there, sets them up and runs the command; one that resumes goes on.
--dry_run prints what it would call. All machines are reached by gcloud, which must be
installed and logged in. docs/howto/tpu.md says what each step does.
"""

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

ROOT = Path(__file__).resolve().parents[1]
ACTIONS = ("all", "create", "setup", "run", "log", "fetch", "delete")

_NAME = flags.DEFINE_string("name", None, "Name of the TPU VM (required).")
_ZONE = flags.DEFINE_string("zone", None, "Zone, e.g. us-central2-b (required).")
_PROJECT = flags.DEFINE_string("project", None, "Project (default: gcloud's).")
_TYPE = flags.DEFINE_string("type", "v4-8", "Accelerator; v4-8 is one VM, v4-32 four.")
_VERSION = flags.DEFINE_string("version", "tpu-ubuntu2204-base", "Software of the VMs.")
_SPOT = flags.DEFINE_bool("spot", False, "Cheaper machines that may be taken away.")
_ACTION = flags.DEFINE_enum("action", "all", ACTIONS, "A single step instead of all.")
_COMMAND = flags.DEFINE_string(
    "command", None, "Entry point and flags, e.g. 'train …'."
)
_HOSTS = flags.DEFINE_bool(
    "hosts", False, "One program over all hosts: adds --hosts to the command."
)
_RAY = flags.DEFINE_bool(
    "ray", False, "Joins the hosts into a Ray cluster; the first one runs the command."
)
_PULL = flags.DEFINE_string("pull", "runs", "What --action=fetch copies from there.")
_DRY = flags.DEFINE_bool("dry_run", False, "Print the calls of gcloud, and end.")

_TPU = ["gcloud", "compute", "tpus", "tpu-vm"]
_FOLDER = "sas_jax"
# The image's Python is older than the lock's; uv brings one that suits.
_SETUP = (
    f"mkdir -p {_FOLDER} && tar -xzf {_FOLDER}.tar.gz -C {_FOLDER} && cd {_FOLDER} && "
    "python3 -m pip install --user --quiet uv && "
    "~/.local/bin/uv python install --quiet 3.12 && "
    'make setup EXTRA=tpu PYTHON="$(~/.local/bin/uv python find 3.12)"'
)
_PORT = 6379


class Failed(Exception):
    """What a call said in its last line."""


def call(command: Sequence[str], *, quiet: bool = False) -> str:
    """Runs a command; its standard output where it is quiet, else "".

    Raises:
      Failed: it ended with another status than 0.
    """
    if _DRY.value:
        print(shlex.join(command))
        return ""
    done = subprocess.run(
        command, text=True, stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.PIPE if quiet else None,
    )  # fmt: skip
    if done.returncode:
        said = (done.stderr or "").strip().splitlines()
        words = f": {said[-1]}" if said else ""
        raise Failed(f"{shlex.join(command[:6])} … ended with {done.returncode}{words}")
    return done.stdout or ""


def place() -> list[str]:
    """The flags that say which machines."""
    project = [f"--project={_PROJECT.value}"] if _PROJECT.value else []
    return [f"--zone={_ZONE.value}", *project]


def ssh(command: str, *, worker: str = "all") -> None:
    """Runs a shell command on the hosts."""
    where = [_NAME.value, *place(), f"--worker={worker}"]
    call([*_TPU, "ssh", *where, f"--command={command}"])


def describe() -> dict:
    """What gcloud knows of the machines; empty where there are none."""
    asked = [*_TPU, "describe", _NAME.value, *place(), "--format=json"]
    try:
        return json.loads(call(asked, quiet=True) or "{}")
    except Failed as error:
        if "NOT_FOUND" in str(error) or "not found" in str(error):
            return {}
        raise


def create() -> None:
    """Makes the machines, unless they are there; those that were preempted go first."""
    state = describe().get("state", "")
    if state == "READY":
        print(f"{_NAME.value} is there")
        return
    if state in ("PREEMPTED", "TERMINATED", "STOPPED"):
        delete()
    elif state:
        raise Failed(f"{_NAME.value} is {state}; expected READY, try again later")
    kind = [f"--accelerator-type={_TYPE.value}", f"--version={_VERSION.value}"]
    spot = ["--spot"] if _SPOT.value else []
    call([*_TPU, "create", _NAME.value, *place(), *kind, *spot])


def setup() -> None:
    """Copies the committed files to every host and installs there."""
    with tempfile.TemporaryDirectory() as folder:
        archive = f"{folder}/{_FOLDER}.tar.gz"
        call(["git", "-C", str(ROOT), "archive", "-o", archive, "HEAD"])
        where = [f"{_NAME.value}:", *place(), "--worker=all"]
        call([*_TPU, "scp", archive, *where])
    extras = ["gcsfs", "google-cloud-storage", *(["ray"] if _RAY.value else [])]
    more = f" && ~/.local/bin/uv pip install --quiet -p .venv {' '.join(extras)}"
    ssh(_SETUP + more)


def join() -> None:
    """Makes a Ray cluster of the hosts; the first one is its head."""
    points = describe().get("networkEndpoints", [])
    head = points[0]["ipAddress"] if points else "HEAD"
    ray = f"{_FOLDER}/.venv/bin/ray"
    for worker in range(max(len(points), 1)):
        role = f"--address={head}:{_PORT}" if worker else f"--head --port={_PORT}"
        ssh(f"{ray} stop --force; {ray} start {role}", worker=str(worker))


def run() -> None:
    """Starts the command and follows it; it goes on when this machine is gone."""
    name, *rest = shlex.split(_COMMAND.value)
    rest += ["--hosts"] if _HOSTS.value else []
    python = shlex.join([".venv/bin/python", "-m", f"experiments.{name}", *rest])
    if _RAY.value:
        join()
    # Started anew, it first ends what ran before; the command resumes.
    begin = (
        f"cd {_FOLDER} && {{ test ! -f run.pid || kill $(cat run.pid) 2>/dev/null; "
        f"nohup {python} > run.log 2>&1 & echo $! > run.pid; "
        "tail --pid=$(cat run.pid) -n +1 -f run.log; }"
    )
    ssh(begin, worker="0" if _RAY.value else "all")


def log() -> None:
    """Shows the end of every host's log."""
    ssh(f"tail -n 20 {_FOLDER}/run.log")


def fetch() -> None:
    """Copies a folder of the first host's checkout here."""
    source = f"{_NAME.value}:{_FOLDER}/{_PULL.value}"
    Path(_PULL.value).parent.mkdir(parents=True, exist_ok=True)
    here = str(Path(_PULL.value).parent)
    call([*_TPU, "scp", "--recurse", source, here, *place(), "--worker=0"])


def delete() -> None:
    """Gives the machines back."""
    call([*_TPU, "delete", _NAME.value, *place(), "--quiet"])


def checked() -> None:
    """Raises Failed for flags that do not fit."""
    for flag in (_NAME, _ZONE):
        if not flag.value:
            raise Failed(f"--{flag.name}: expected one")
    if _ACTION.value in ("all", "run"):
        if not (_COMMAND.value or "").split():
            raise Failed("--command: expected an entry point, such as 'train --data=…'")
        name = shlex.split(_COMMAND.value)[0]
        if not (ROOT / "experiments" / f"{name}.py").exists():
            raise Failed(f"--command: there is no experiments.{name}")
    if _HOSTS.value and _RAY.value:
        raise Failed("--hosts and --ray: expected one of them")
    if not _DRY.value and not shutil.which("gcloud"):
        raise Failed("gcloud is not installed; see cloud.google.com/sdk, or --dry_run")


def main(argv: Sequence[str]) -> None:
    """Does the step that was asked for, or create, setup and run."""
    try:
        if len(argv) > 1:
            raise Failed(f"unexpected argument {argv[1]!r}; use --flag=value")
        checked()
        steps = [create, setup, run]
        if _ACTION.value != "all":
            steps = [globals()[_ACTION.value]]
        for step in steps:
            step()
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    app.run(main)
