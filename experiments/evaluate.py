"""Evaluates a checkpoint: variants x thresholds x layouts in one batch, paired.

python -m experiments.evaluate --checkpoint=runs/pg1_dt --variants=none,rand,sas
python -m experiments.evaluate --checkpoint=runs/plane --on_device=256   (tasks in JAX)

Rows are kept block by block in --out, the settings that made them beside it as JSON.
The same command resumes; other variants, thresholds and layouts are added to the file,
and rows of other settings are refused.
"""

import os
import shlex
import sys

from absl import flags

from experiments import cli, settings_flag
from experiments.progress import evaluation_bar
from sas_jax.errors import UserError

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_STEP = flags.DEFINE_integer("step", None, "Training step (default: the last).")
_VARIANTS = flags.DEFINE_list(
    "variants",
    None,
    "E.g. none,rand,sas,plan (default: the algorithm's); a wrong name lists all.",
)
_LIMITS = flags.DEFINE_list("cost_limits", None, "Thresholds (default: the task's).")
_TARGET = flags.DEFINE_float("target_return", None, "Return token (the checkpoint's).")
_EPISODES = flags.DEFINE_integer("episodes", 20, "Layouts per variant.")
_FIRST_SEED = flags.DEFINE_integer("first_seed", 1_000_000, "Seed of the first layout.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the agents' draws.")
_TRAIN_SEED = flags.DEFINE_integer("train_seed", 0, "Index of the training seed.")
_WORKERS = flags.DEFINE_integer("workers", None, "Environment processes (all cores).")
_ENGINE = flags.DEFINE_string("engine", "local", "Where workers run: local or ray.")
_CLUSTER = flags.DEFINE_string("cluster", "", "Ray's address, e.g. auto.")
_DEVICES = flags.DEFINE_integer(
    "devices", 0, "Devices that share the episodes (0: all; of a CPU the cores)."
)
_CRITIC = cli.define_path(
    "critic",
    None,
    "For critic and gate variants: a file of experiments.critic, or a checkpoint of an "
    "algorithm with a cost critic.",
)
_ASKING = cli.define_path(
    "asking", None, "File of experiments.asking, for cprtg variants."
)
_SUPPORT = cli.define_path(
    "support", None, "File of experiments.support, for plan_supported."
)
_SHIFT = flags.DEFINE_string(
    "shift", "", "A changed world, e.g. actuator:0.8,delay:1 (see envs/shift.py)."
)
_ON_DEVICE = flags.DEFINE_integer(
    "on_device",
    None,
    "Tasks in JAX: whole episodes in one program, so many of a variant at once.",
    lower_bound=1,
)
_OUT = cli.define_path("out", None, "CSV (default: CHECKPOINT/results.csv).")

cli.answer_help(__name__, __doc__)

from experiments import start
from sas_jax import checkpoint, learners, risks
from sas_jax.envs.tasks import get_task
from sas_jax.evaluation.config import EvaluationConfig
from sas_jax.evaluation.evaluate import evaluate
from sas_jax.evaluation.settings import settings_of
from sas_jax.evaluation.work import work_of
from sas_jax.files.results_file import ResultsFile
from sas_jax.report import tables


def main(argv):
    """Runs the episodes, writes one row each and prints the tables."""
    del argv
    if not _CHECKPOINT.value:
        raise UserError("--checkpoint: expected a workdir of experiments.train")
    start.cores_as_devices()
    start.keep_programs(_CHECKPOINT.value)
    loaded = checkpoint.load(_CHECKPOINT.value, _STEP.value)
    changed = settings_flag.apply(loaded.config, only="sas.")
    loaded = loaded._replace(config=changed)
    algorithm = learners.get(loaded.config.algo)
    config = EvaluationConfig(
        variants=tuple(_VARIANTS.value or algorithm.default_variants),
        cost_limits=cli.parse_limits(
            _LIMITS.value, get_task(loaded.config.task).cost_limits
        ),
        target_return=_TARGET.value,
        num_episodes=_EPISODES.value,
        first_seed=_FIRST_SEED.value,
        seed=_SEED.value,
        train_seed=_TRAIN_SEED.value,
        num_workers=_WORKERS.value,
        devices=_DEVICES.value,
        engine=_ENGINE.value,
        cluster=_CLUSTER.value,
        shift=_SHIFT.value,
    )
    algorithm.check_variants(config.variants)
    for flag, plain in ((_WORKERS, None), (_DEVICES, 0), (_ENGINE, "local")):
        if _ON_DEVICE.value is not None and flag.value != plain:
            raise UserError(f"--{flag.name}: expected none beside --on_device")
    given = risks.companions(
        loaded.spec,
        critic=_CRITIC.value,
        asking=_ASKING.value,
        support=_SUPPORT.value,
    )
    task = get_task(loaded.config.task)
    out = ResultsFile(
        _OUT.value or os.path.join(_CHECKPOINT.value, "results.csv"),
        settings_of(
            loaded,
            config,
            critic_file=_CRITIC.value,
            asking_file=_ASKING.value,
            support_file=_SUPPORT.value,
            on_device=_ON_DEVICE.value,
        ),
        shlex.join(["python", "-m", "experiments.evaluate", *sys.argv[1:]]),
        optional=("critic", "asking", "support"),
    )
    work, errors = work_of(loaded.config, config, out.rows), []

    def keep(rows):
        """A disk that is full now may have room for the next block."""
        try:
            out.write(rows)
            errors.clear()
        except UserError as error:
            errors[:] = [error]

    total = sum(part.num_groups * len(seeds) for part, seeds in work)
    total *= task.episode_steps
    bar, on_step, on_stage = evaluation_bar(f"evaluate {task.name}", total)
    with bar:
        run = evaluate(
            loaded,
            config,
            done=out.rows,
            on_step=on_step,
            on_stage=on_stage,
            on_rows=keep,
            on_device=_ON_DEVICE.value,
            **given,
        )
    rows = run.results
    reference = "none" if "none" in config.variants else config.variants[0]
    for table in [
        *tables.threshold_tables(rows),
        *tables.paired_tables(rows, reference),
    ]:
        print(table.text())
    if errors:
        raise errors[0]
    print(f"{len(out.rows)} rows in {out.path}")


if __name__ == "__main__":
    cli.run(main, resumes=True)
