"""Finds a task's DSRL file: on this machine, else on the Hugging Face hub.

DSRL names its files ``<stem>-<largest cost>-<trajectories>.hdf5`` (`dsrl/infos.py`) and
keeps them in ``$DSRL_DATASET_DIR``, by default ``~/.dsrl/datasets``. Its own downloader
neither resumes nor checks; ours leaves both to `huggingface_hub` and writes down size
and sha256 once the file could be read, so that a file that changes later is noticed.
"""

import contextlib
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Callable

from sas_jax.envs import tasks
from sas_jax.errors import UserError
from sas_jax.files import places

REPOSITORY = "YYY-45/DSRL"

# fetch(file name, folder) puts the file into the folder, whole or not at all.
Fetch = Callable[[str, pathlib.Path], object]


def file_name(task: str) -> str:
    """Name of the task's file in DSRL, e.g. SafetyPointGoal1Gymnasium-v0-100-2022.hdf5.

    DSRL rounds the largest cost up to tens (398 is 400 in CarCircle2's name).

    Raises:
      UserError: unknown task, or one that is not in DSRL.
    """
    known = tasks.get_task(task).references
    if not known.dsrl_stem:
        raise UserError(f"task {task!r} is not in DSRL: expected a file of its data")
    largest = 10 * math.ceil(known.cost_max / 10)
    return f"{known.dsrl_stem}-{largest}-{known.dsrl_trajectories}.hdf5"


def folders() -> list[pathlib.Path]:
    """Folders searched, in order; the first one receives downloads."""
    chosen, default = os.environ.get("DSRL_DATASET_DIR"), "~/.dsrl/datasets"
    if chosen and places.is_url(chosen):
        raise UserError(
            f"$DSRL_DATASET_DIR: {chosen}; expected a folder of this machine (one file "
            "of a bucket can be named instead of the task)"
        )
    wanted = [chosen, default] if chosen else [default]
    # A container's user may have no home: what cannot be expanded stays as it is.
    expanded = (os.path.expanduser(folder) for folder in wanted)
    known = [pathlib.Path(folder) for folder in expanded if not folder.startswith("~")]
    if not known:
        raise UserError(
            "no home folder is known here; expected a folder of data in "
            "$DSRL_DATASET_DIR, or a file"
        )
    return known


def locate(task: str, *, fetch: Fetch | None = None) -> pathlib.Path:
    """Returns the path of the task's file, downloading it if it is nowhere here.

    Args:
      task: name of a task.
      fetch: replaces the download from the hub.

    Once the file has been read, `remember` it.

    Raises:
      UserError: unknown task; no file and no download; or a file that is no longer the
        one recorded beside it.
    """
    name = file_name(task)
    stem = tasks.get_task(task).references.dsrl_stem
    for folder in folders():
        # The exact name first, then other releases of the same task.
        found = [
            folder / name,
            folder / f"{stem}.hdf5",
            *sorted(folder.glob(f"{stem}-*")),
        ]
        for path in found:
            if path.suffix == ".hdf5" and path.is_file():
                verify(path)
                return path
    target = folders()[0]
    try:
        target.mkdir(parents=True, exist_ok=True)
        (fetch or _from_hub)(name, target)
        if not (target / name).is_file():
            raise FileNotFoundError(f"the download left no file {name}")
    # The hub's client raises its own, httpx's and the operating system's errors; to
    # the user all of them mean that there is no file.
    except Exception as error:
        searched = ", ".join(str(folder) for folder in folders())
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{task}: no file {name} in {searched}, and it cannot be downloaded from "
            f"huggingface.co/datasets/{REPOSITORY} ({reason}); put it into the first "
            "folder, name another in $DSRL_DATASET_DIR, or record episodes yourself: "
            f"python -m experiments.collect --task={task}"
        ) from error
    verify(target / name)
    return target / name


def verify(path: pathlib.Path) -> None:
    """Compares a file with the size and sha256 recorded beside it by `remember`.

    Without a record nothing is compared.

    Raises:
      UserError: size or sha256 differ, or the record is unreadable.
    """
    record = _record_of(path)
    try:
        expected = json.loads(record.read_text())
        size, digest = int(expected["size"]), str(expected["sha256"])
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{record}: not a record of size and sha256; delete it to make a new one"
        ) from error
    actual_size = path.stat().st_size
    if actual_size != size:
        found = f"{actual_size} bytes, expected {size}"
    elif _sha256(path) != digest:
        found = f"sha256 differs from {digest[:16]}..."
    else:
        return
    raise UserError(
        f"{path}: changed since its first use ({found} as in {record.name}); delete "
        "the file to download it again, or the record if the change is meant"
    )


def remember(path: pathlib.Path) -> None:
    """Records size and sha256 of a file that could be read, unless they are recorded.

    A folder that cannot be written gets no record.
    """
    record = _record_of(path)
    if record.exists():
        return
    content = {"size": path.stat().st_size, "sha256": _sha256(path)}
    temporary = record.with_name(f"{record.name}.{os.getpid()}.part")
    with contextlib.suppress(OSError):
        temporary.write_text(json.dumps(content) + "\n")
        os.replace(temporary, record)


def _record_of(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f"{path.name}.sha256.json")


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_hub(name: str, folder: pathlib.Path) -> None:
    """Downloads one file; the client resumes, shows progress and moves it last."""
    import huggingface_hub

    # Without a network the download would try for half a minute, and log each try; a
    # question about the file fails at once.
    huggingface_hub.get_hf_file_metadata(
        huggingface_hub.hf_hub_url(REPOSITORY, name, repo_type="dataset")
    )
    huggingface_hub.hf_hub_download(
        repo_id=REPOSITORY, filename=name, repo_type="dataset", local_dir=folder
    )
