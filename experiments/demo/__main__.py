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
_LAYOUTS = flags.DEFINE_integer("layouts", 64, "Layouts per variant to evaluate.")
_LIMITS = flags.DEFINE_list(
    "cost_limits", None, "Cost thresholds (default: the task's strictest)."
)
_VARIANTS = flags.DEFINE_list("variants", ["none", "sas", "plan"], "What to compare.")
_SEED = cli.define_seed("seed", 0, "Seed of data, training and evaluation.")

cli.answer_help(__name__, __doc__)

from experiments.demo import page as demo_page
from experiments.demo import stages
from sas_jax import learners
from sas_jax.envs.tasks import get_task
from sas_jax.evaluation.evaluate import EvaluationConfig
from sas_jax.experiment import (
    ExperimentConfig,
    PolicyConfig,
    TrainConfig,
    action_sensors,
)
from sas_jax.models.transformer import DecoderConfig
from sas_jax.models.world_model import WorldModelConfig
from sas_jax.report import tables


def demo_config(task: str, steps: int, seed: int) -> ExperimentConfig:
    """A model a quarter of the paper's width squared, trained fast and briefly.

    Its policy does not see what shows its last action, which it would copy, and has
    seen prompts in training, by which it would lose its way.
    """
    config = ExperimentConfig(
        task=task,
        model=WorldModelConfig(
            decoder=DecoderConfig(width=64),
            vae_hidden=(256, 256),
            latent_dim=16,
            marginal_latent_dim=16,
            policy_hidden=(256, 256),
            action_history=False,
            policy_blind=action_sensors(task),
        ),
        train=TrainConfig(
            num_steps=steps,
            batch_rows=8,
            learning_rate=3e-3,
            warmup=200,
            schedule="cosine",
            checkpoint_every=500,
            seed=seed,
        ),
        policy=PolicyConfig(prompt_prob=0.5),
    )
    return settings_flag.apply(config)


def main(argv):
    """Runs all stages and prints the tables and where the report lies."""
    del argv
    started = time.monotonic()
    task, folder = get_task(_TASK.value), Path(_OUT.value)
    if _EPISODES.value < 2 or _STEPS.value < 1:
        raise UserError("--episodes: expected >= 2, and --steps >= 1")
    config = demo_config(task.name, _STEPS.value, _SEED.value)
    learners.get(config.algo).check_variants(tuple(_VARIANTS.value))
    evaluation = EvaluationConfig(
        variants=tuple(_VARIANTS.value),
        cost_limits=cli.parse_limits(_LIMITS.value, task.cost_limits[:1]),
        num_episodes=_LAYOUTS.value,
        seed=_SEED.value,
    )
    folder.mkdir(parents=True, exist_ok=True)
    clock = demo_page.Clock()
    episodes = stages.collect_stage(
        folder / "data.hdf5", task.name, _EPISODES.value, _SEED.value
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
    reference = evaluation.variants[0]
    for table in [
        *tables.summary_tables(run.results),
        *tables.paired_tables(run.results, reference),
    ]:
        print(table.text())
    print(f"{time.monotonic() - started:.0f} s in all; report: {report}")


if __name__ == "__main__":
    cli.run(main, resumes=True)
