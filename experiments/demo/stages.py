"""The demo's stages: collect, train, evaluate. Each resumes or is skipped."""

import dataclasses
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.progress import evaluation_bar, progress_bar
from sas_jax import learners
from sas_jax.alignment import beginning
from sas_jax.card import measure
from sas_jax.checkpoint import Checkpoint
from sas_jax.data import collect, dsrl
from sas_jax.data.episodes import Episodes
from sas_jax.envs.tasks import get_task
from sas_jax.evaluation.evaluate import Evaluation, EvaluationConfig, Paths, evaluate
from sas_jax.experiment import ExperimentConfig
from sas_jax.files import atomic, results
from sas_jax.training import fit as training_fit


def collect_stage(path: Path, task: str, episodes: int, seed: int) -> Episodes:
    """Records `episodes` behaviour episodes into `path`, unless they are there.

    Raises:
      UserError: `path` holds another recording: another task, number or seed.
    """
    plan = collect.Plan(task, episodes, seed)
    with tqdm(total=episodes, desc="[1/4] collect", unit="episode") as bar:
        collect.collect(
            plan, path, progress=lambda done, total: bar.update(done - bar.n)
        )
        bar.update(episodes - bar.n)  # all were there
    loaded = dsrl.load(path, task=task)
    print(collect.summary(loaded))
    return loaded


def train_stage(
    config: ExperimentConfig, episodes: Episodes, workdir: Path
) -> Checkpoint:
    """Trains in `workdir`; resumes, and returns at once when it is done.

    What was trained before acts as `config` says, as it would if trained today.
    """
    bar, show, stage = progress_bar("[2/4] train")
    with bar:
        loaded = training_fit.fit(
            config,
            episodes,
            workdir,
            make_card=measure.make_card,
            progress=show,
            on_stage=stage,
        )
    return loaded._replace(config=config)


def evaluate_stage(
    loaded: Checkpoint, config: EvaluationConfig, folder: Path
) -> Evaluation:
    """Runs the episodes into results.csv and paths.npz, unless they are there.

    They count as there when evaluation.json beside them names the same settings, data
    and training step; it is written last.
    """
    marker, table = folder / "evaluation.json", folder / "results.csv"
    settings = {
        "evaluation": dataclasses.asdict(config),
        "experiment": dataclasses.asdict(loaded.config),
        "data": loaded.spec.fingerprint,
        "step": loaded.step,
    }
    settings = json.loads(json.dumps(settings))
    if marker.exists() and json.loads(marker.read_text()) == settings:
        return Evaluation(results.read_results(table), load_paths(folder))
    marker.unlink(missing_ok=True)
    steps = get_task(loaded.config.task).episode_steps
    total = len(config.variants) * config.num_episodes * steps
    bar, on_step, on_stage = evaluation_bar("[3/4] align, act", total)
    with bar:
        # The median layout is that of all of them.
        run = evaluate(
            loaded, config, on_step=on_step, on_stage=on_stage, all_paths=True
        )
    results.write_results(table, run.results)
    save_paths(folder, run.paths)
    atomic.write_text(marker, json.dumps(settings, indent=1))
    return run


def save_paths(folder: Path, paths: Paths) -> None:
    """Writes the paths to paths.npz, atomically."""
    arrays = paths._asdict()
    layouts = {
        seed: {name: rows.tolist() for name, rows in layout.items()}
        for seed, layout in arrays.pop("layouts").items()
    }
    with atomic.replacing(folder / "paths.npz") as temporary:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, layouts=json.dumps(layouts), **arrays)


def load_paths(folder: Path) -> Paths:
    """Reads what `save_paths` wrote."""
    with np.load(folder / "paths.npz", allow_pickle=False) as file:
        arrays = dict(file)
    layouts = json.loads(str(arrays.pop("layouts")))
    arrays["variant"] = [str(v) for v in arrays["variant"]]
    layouts = {
        int(seed): {name: np.array(rows) for name, rows in layout.items()}
        for seed, layout in layouts.items()
    }
    return Paths(layouts=layouts, **arrays)


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Algorithm 1 for one episode, as plain arrays for a picture.

    energies_first `[N, T]`, energies_second `[M, T]`; chosen_*: trajectory; segment_*:
    half-open bounds; level: E-hat; seconds: wall time once compiled.
    """

    energies_first: np.ndarray
    energies_second: np.ndarray
    chosen_first: int
    chosen_second: int
    segment_first: tuple[int, int]
    segment_second: tuple[int, int]
    level: float
    seconds: float


def align_one(
    loaded: Checkpoint, config: EvaluationConfig, seed: int, obs: np.ndarray
) -> Alignment:
    """Repeats, with the same draws, the alignment of the episode `seed` under `sas`."""
    algorithm = learners.get(loaded.config.algo)
    policy = algorithm.make_policy(
        loaded.config,
        loaded.spec,
        variants=("sas",),
        report_limits=config.cost_limits,
    )
    state = jax.tree.map(lambda x: x[config.train_seed], loaded.state)
    variables = algorithm.variables_of(state)
    key = beginning.episode_key(
        jax.random.key(config.seed), jnp.uint32(seed), is_null=False
    )
    run = jax.jit(policy.align_episode)
    arguments = (variables, key, jnp.asarray(obs), jnp.asarray(config.cost_limits))
    jax.block_until_ready(run(*arguments))
    started = time.perf_counter()
    out = jax.device_get(jax.block_until_ready(run(*arguments)))
    seconds = time.perf_counter() - started
    first, second = out.first_choices["sas"], out.second_choices["sas"]
    return Alignment(
        energies_first=out.first.energies,
        energies_second=out.second["min"].energies,
        chosen_first=int(first.selection.index),
        chosen_second=int(second.selection.index),
        segment_first=(int(first.start), int(first.end)),
        segment_second=(int(second.start), int(second.end)),
        level=float(first.selection.level),
        seconds=seconds,
    )
