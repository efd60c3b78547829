"""Records episodes of scripted behaviours on all cores; resumes where it stopped.

Every episode is a part file of its own, written whole by the worker that ran it: there
is no traffic per step, and what is there after a kill need not be run again. The data
file is put together from the parts in order and depends on (task, seed, number of
episodes) only, not on the number of workers nor on interruptions.
"""

import concurrent.futures
import contextlib
import dataclasses
import importlib.metadata
import json
import multiprocessing
import os
import pathlib
import shutil
import zipfile
from collections.abc import Iterator

import numpy as np

from sas_jax.data import dsrl, hdf5
from sas_jax.data.behaviours import dials as behaviours_dials
from sas_jax.data.episodes import Episodes
from sas_jax.envs import tasks
from sas_jax.envs.vector import shared
from sas_jax.errors import UserError

_ARRAYS = ("observations", "actions", "rewards", "costs", "terminated")
# Numerics come from these; a part recorded with others is not the same episode.
_SIMULATOR = ("safety-gymnasium", "mujoco", "numpy")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to record.

    task: name of a task with a scripted behaviour.
    episodes: how many.
    seed: of layouts, behaviours and noise.
    mixture: how the behaviours' dials are drawn; see `behaviours.dials.sample`.
    """

    task: str
    episodes: int
    seed: int
    mixture: str = "varied"

    def __post_init__(self):
        behaviours_dials.family(self.task)
        behaviours_dials.check_mixture(self.mixture, self.task)
        object.__setattr__(self, "task", tasks.get_task(self.task).name)
        if self.episodes < 1:
            raise UserError(f"episodes {self.episodes}: expected at least 1")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed {self.seed}: expected an integer in [0, 2**32)")


def collect(
    plan: Plan, out: str | os.PathLike, *, workers: int | None = None, progress=None
) -> Episodes:
    """Records the planned episodes and writes them as a DSRL file.

    Args:
      plan: what to record.
      out: the file. Parts lie in ``<out>.parts`` until it is complete.
      workers: processes; by default one per usable core.
      progress: called with (episodes done, episodes in all) after each episode.

    Returns:
      The episodes, as written. A file at `out` that holds this very recording is
      read and left as it is.

    Raises:
      UserError: a bad number of workers, a file or parts of another plan at `out`, a
        folder that cannot be written, or a worker that died.
    """
    out = pathlib.Path(out)
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    if workers < 1:
        raise UserError(f"workers {workers}: expected at least 1")
    if out.exists():
        return _recorded(plan, out)
    parts = out.with_name(f"{out.name}.parts")
    _claim(parts, plan)
    missing = [e for e in range(plan.episodes) if _load_part(parts, e) is None]
    report = progress or (lambda done, total: None)
    done = plan.episodes - len(missing)
    report(done, plan.episodes)
    for _ in _run(plan, parts, missing, min(workers, len(missing))):
        done += 1
        report(done, plan.episodes)
    episodes = _assemble(plan, parts)
    dials = [_dials(plan, e) for e in range(plan.episodes)]
    columns = {
        field.name: np.array([getattr(d, field.name) for d in dials])
        for field in dataclasses.fields(behaviours_dials.Behaviour)
    }
    seeds = [
        behaviours_dials.environment_seed(plan.seed, e) for e in range(plan.episodes)
    ]
    columns["seed"] = np.array(seeds, dtype=np.int64)
    dsrl.write(out, episodes, _header(plan), columns=columns)
    shutil.rmtree(parts, ignore_errors=True)
    return episodes


def _dials(plan: Plan, episode: int) -> behaviours_dials.Behaviour:
    return behaviours_dials.sample(plan.task, plan.seed, episode, plan.mixture)


def record(env, plan: Plan, episode: int) -> dict[str, np.ndarray]:
    """Runs one episode.

    Returns:
      observations `[T + 1, O]`, actions `[T, A]`, rewards `[T]`, costs `[T]` (float32)
      and terminated `[]` bool.
    """
    dials = _dials(plan, episode)
    observation = env.reset(behaviours_dials.environment_seed(plan.seed, episode))
    act = behaviours_dials.start(env, plan.task, dials, plan.seed, episode)
    observations, actions, rewards, costs = [observation], [], [], []
    while True:
        action = act(observation)
        observation, reward, cost, terminated, truncated = env.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(reward)
        costs.append(cost)
        if terminated or truncated:
            break
    return {
        "observations": np.array(observations, np.float32),
        "actions": np.array(actions, np.float32),
        "rewards": np.array(rewards, np.float32),
        "costs": np.array(costs, np.float32),
        "terminated": np.array(terminated),
    }


def summary(episodes: Episodes) -> str:
    """A table of what was recorded beside DSRL's ranges."""
    task = tasks.get_task(episodes.task)
    rows = [
        ("return", episodes.returns(), (task.return_min, task.return_max)),
        ("cost", episodes.cost_returns(), (task.cost_min, task.cost_max)),
    ]
    size = f"{episodes.num_episodes} episodes, {episodes.num_steps} steps"
    lines = [
        f"{episodes.task}: {size}",
        f"{'':8}{'min':>8}{'median':>8}{'mean':>8}{'max':>8}   DSRL min .. max",
    ]
    for name, values, (low, high) in rows:
        numbers = (values.min(), np.median(values), values.mean(), values.max())
        shown = "".join(f"{number:8.1f}" for number in numbers)
        lines.append(f"{name:8}{shown}   {low:.1f} .. {high:.1f}")
    return "\n".join(lines)


def _header(plan: Plan) -> dict[str, str | int]:
    """What identifies the recording; attributes of the file."""
    versions = {name: importlib.metadata.version(name) for name in _SIMULATOR}
    header = {
        "task": plan.task,
        "collection_seed": plan.seed,
        "behaviour_version": behaviours_dials.VERSION,
        "simulator": json.dumps(versions, sort_keys=True),
    }
    # "varied" came first, and its files say nothing.
    return header if plan.mixture == "varied" else header | {"mixture": plan.mixture}


def _recorded(plan: Plan, out: pathlib.Path) -> Episodes:
    """Reads a file that is there; UserError unless it is the planned recording."""
    expected = {"mixture": None} | _header(plan)
    with hdf5.open_file(out) as file:
        found = {name: hdf5.read_attribute(file, name) for name in expected}
    episodes = dsrl.load(out, task=plan.task) if found == expected else None
    if episodes is None or episodes.num_episodes != plan.episodes:
        raise UserError(
            f"{out}: exists already and is not this recording; choose another file or "
            "delete it"
        )
    return episodes


def _claim(parts: pathlib.Path, plan: Plan) -> None:
    """Makes the folder of parts, or checks that it belongs to the same recording."""
    header = parts / "recording.json"
    try:
        found = json.loads(header.read_text())
    except (FileNotFoundError, NotADirectoryError):
        try:
            parts.mkdir(parents=True, exist_ok=True)
            _write_atomically(header, json.dumps(_header(plan)).encode())
        except OSError as error:
            raise UserError(f"{parts}: cannot be written ({error.strerror})") from error
        return
    except (OSError, ValueError) as error:
        raise UserError(
            f"{header}: unreadable; delete {parts} to start anew"
        ) from error
    if found != _header(plan):
        raise UserError(
            f"{parts}: holds episodes of another recording ({json.dumps(found)}); "
            "delete it or choose another file"
        )


def _part(parts: pathlib.Path, episode: int) -> pathlib.Path:
    return parts / f"episode_{episode:06d}.npz"


def _load_part(parts: pathlib.Path, episode: int) -> dict[str, np.ndarray] | None:
    """Returns a recorded part, None if it is absent or damaged (then run it again)."""
    try:
        with np.load(_part(parts, episode), allow_pickle=False) as file:
            return {name: file[name] for name in _ARRAYS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write_atomically(path: pathlib.Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def _assemble(plan: Plan, parts: pathlib.Path) -> Episodes:
    """Puts the parts together in order."""
    loaded = [_load_part(parts, e) for e in range(plan.episodes)]
    lengths = [len(part["rewards"]) for part in loaded]
    return Episodes(
        task=plan.task,
        observations=np.concatenate([part["observations"][:-1] for part in loaded]),
        actions=np.concatenate([part["actions"] for part in loaded]),
        rewards=np.concatenate([part["rewards"] for part in loaded]),
        costs=np.concatenate([part["costs"] for part in loaded]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        final_observations=np.stack([part["observations"][-1] for part in loaded]),
        terminated=np.array([bool(part["terminated"]) for part in loaded]),
    )


def _run(plan: Plan, parts, missing: list[int], workers: int) -> Iterator[int]:
    """Yields episode numbers as their parts get written."""
    if not missing:
        return
    with _one_thread_each():
        executor = concurrent.futures.ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(plan, str(parts), os.getpid()),
        )
        pending = {executor.submit(_record_part, e): e for e in missing}
    try:
        for future in concurrent.futures.as_completed(pending):
            try:
                future.result()
            except concurrent.futures.process.BrokenProcessPool as error:
                raise UserError(
                    f"{plan.task}: a worker process died; run the same command again "
                    "to go on (and with fewer workers if memory ran out)"
                ) from error
            yield pending[future]
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _one_thread_each():
    """Keeps the numerical libraries of new processes to one thread each."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


# The one recording that a worker process works on: (environment, plan, folder).
_worker_state: tuple | None = None


def _start_worker(plan: Plan, parts: str, parent: int) -> None:
    """Runs once in each worker process."""
    global _worker_state
    from sas_jax.envs.make import make as make_env

    shared.exit_with(parent)
    _worker_state = (make_env(plan.task), plan, pathlib.Path(parts))


def _record_part(episode: int) -> None:
    """Runs one episode in a worker and writes its part."""
    env, plan, parts = _worker_state
    arrays = record(env, plan, episode)
    temporary = parts / f".episode_{episode:06d}.{os.getpid()}.npz"
    np.savez(temporary, **arrays)
    os.replace(temporary, _part(parts, episode))
