"""The whole way on one task: collect, train, align, evaluate, report.

python -m experiments.demo                 (what `make demo` runs)
python -m experiments.demo --out=runs/big --steps=20000 --episodes=600 --layouts=512

Run again to resume. The page is OUT/report.md, the rows OUT/results.csv.
"""

import shlex
import sys
import time
from pathlib import Path

from absl import flags

from experiments import cli, settings_flag
from sas_jax.errors import UserError

_TASK = flags.DEFINE_string("task", "PointGoal1", "Task to run.")
_OUT = cli.define_path("out", "runs/demo", "Folder of the run.", is_local=True)
_EPISODES = flags.DEFINE_integer("episodes", 300, "Behaviour episodes to record.")
_STEPS = flags.DEFINE_integer("steps", 3000, "Training steps.")
_LAYOUTS = flags.DEFINE_integer("layouts", 32, "Layouts per variant to evaluate.")
_LIMITS = flags.DEFINE_list(
    "cost_limits", None, "Cost thresholds (default: the task's strictest)."
)
_VARIANTS = flags.DEFINE_list(
    "variants", None, "What to compare (default: none,sas,plan, plan_recall if it can)."
)
_SEED = cli.define_seed("seed", 0, "Seed of data, training and evaluation.")

cli.answer_help(__name__, __doc__)

from experiments.demo import page as demo_page
from experiments.demo import stages
from sas_jax import learners
from sas_jax.envs.tasks import Task, get_task
from sas_jax.evaluation.evaluate import Evaluation, EvaluationConfig
from sas_jax.experiment import ExperimentConfig
from sas_jax.files import atomic
from sas_jax.files.lock import FolderLock
from sas_jax.policies import map_memory
from sas_jax.report import tables
from sas_jax.sweeps import presets


def demo_config(task: str, steps: int, seed: int) -> ExperimentConfig:
    """The preset, for as many steps and from that seed; then what the flags say."""
    config = presets.config_of("demo", task, "dt")
    train = {"train.num_steps": steps, "train.seed": seed}
    return settings_flag.apply(learners.merge(config, train))


def compared(task: Task) -> tuple[str, ...]:
    """The variants of the flag, or those that the task has a use for."""
    if _VARIANTS.value is not None:
        return tuple(_VARIANTS.value)
    recalls = () if map_memory.lacking(task) else ("plan_recall",)
    return ("none", "sas", "plan", *recalls)


def main(argv):
    """Runs all stages and prints the tables and where the report lies."""
    del argv
    started = time.monotonic()
    task, folder = get_task(_TASK.value), Path(_OUT.value)
    if _EPISODES.value < 2 or _STEPS.value < 1:
        raise UserError("--episodes: expected >= 2, and --steps >= 1")
    config = demo_config(task.name, _STEPS.value, _SEED.value)
    variants = compared(task)
    learners.get(config.algo).check_variants(variants)
    evaluation = EvaluationConfig(
        variants=variants,
        cost_limits=cli.parse_limits(_LIMITS.value, task.cost_limits[:1]),
        num_episodes=_LAYOUTS.value,
        seed=_SEED.value,
    )
    atomic.probe(folder / "report.md")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(folder, "demo")
    try:
        run, report = _all_stages(folder, config, evaluation)
    finally:
        lock.release()
    reference = evaluation.variants[0]
    for table in [
        *tables.summary_tables(run.results),
        *tables.paired_tables(run.results, reference),
    ]:
        print(table.text())
    print(f"{time.monotonic() - started:.0f} s in all; report: {report}")


def _all_stages(
    folder: Path, config: ExperimentConfig, evaluation: EvaluationConfig
) -> tuple[Evaluation, Path]:
    """Collects, trains, evaluates and writes the page, in `folder`."""
    clock = demo_page.Clock()
    episodes = stages.collect_stage(
        folder / "data.hdf5", config.task, _EPISODES.value, _SEED.value
    )
    clock.lap("collect")
    loaded = stages.train_stage(config, episodes, folder / "model")
    clock.lap("train")
    run = stages.evaluate_stage(loaded, evaluation, folder)
    clock.lap("evaluate")
    report = demo_page.write(
        folder,
        command=shlex.join(["python", "-m", "experiments.demo", *sys.argv[1:]]),
        loaded=loaded,
        evaluation=evaluation,
        run=run,
        episodes=episodes,
        clock=clock,
    )
    return run, report


if __name__ == "__main__":
    cli.run(main, resumes=True)
