"""Evaluates a checkpoint: variants x thresholds x layouts in one batch, paired.

python -m experiments.evaluate --checkpoint=runs/pg1_dt --variants=none,rand,sas
"""

import os

from absl import flags
from tqdm import tqdm

from experiments import cli
from sas_jax import checkpoint, learners
from sas_jax.alignment.variants import VARIANTS
from sas_jax.critic import file as critic_file
from sas_jax.envs.tasks import get_task
from sas_jax.errors import UserError
from sas_jax.evaluation.evaluate import EvaluationConfig, evaluate, passes_of
from sas_jax.files import results
from sas_jax.report import tables

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_STEP = flags.DEFINE_integer("step", None, "Training step (default: the last).")
_VARIANTS = flags.DEFINE_list(
    "variants",
    None,
    f"Of DT and CDT out of {', '.join(VARIANTS)} (default: none, rand, sas).",
)
_LIMITS = flags.DEFINE_list("cost_limits", None, "Thresholds (default: the task's).")
_TARGET = flags.DEFINE_float("target_return", None, "Return token (the checkpoint's).")
_EPISODES = flags.DEFINE_integer("episodes", 20, "Layouts per variant.")
_FIRST_SEED = flags.DEFINE_integer("first_seed", 1_000_000, "Seed of the first layout.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the agents' draws.")
_TRAIN_SEED = flags.DEFINE_integer("train_seed", 0, "Index of the training seed.")
_WORKERS = flags.DEFINE_integer("workers", None, "Environment processes (all cores).")
_DEVICES = flags.DEFINE_integer(
    "devices", 1, "Blocks of 32 at a time (0: all devices)."
)
_CRITIC = cli.define_path(
    "critic", None, "File of experiments.critic, for critic and gate variants."
)
_SHIFT = flags.DEFINE_string(
    "shift", "", "A changed world, e.g. actuator:0.8,delay:1 (see envs/shift.py)."
)
_OUT = cli.define_path("out", None, "CSV (default: CHECKPOINT/results.csv).")
_SET = flags.DEFINE_multi_string("set", [], "Setting, e.g. --set=sas.num_first=10.")


def parse_limits(texts: list[str] | None, task: str) -> tuple[float, ...]:
    """Thresholds from a flag's parts; None means the task's own."""
    if texts is None:
        return tuple(float(x) for x in get_task(task).cost_limits)
    try:
        return tuple(float(text) for text in texts)
    except ValueError as error:
        raise UserError(
            f"--cost_limits: {error}; expected numbers, e.g. 20,40"
        ) from error


def main(argv):
    """Runs the episodes, writes one row each and prints the tables."""
    del argv
    if not _CHECKPOINT.value:
        raise UserError("--checkpoint: expected a workdir of experiments.train")
    loaded = checkpoint.load(_CHECKPOINT.value, _STEP.value)
    changed = [s for s in _SET.value if not s.startswith("sas.")]
    if changed:
        raise UserError(f"--set={changed[0]}: only sas.* can change after training")
    loaded = loaded._replace(config=learners.override(loaded.config, _SET.value))
    algorithm = learners.get(loaded.config.algo)
    config = EvaluationConfig(
        variants=tuple(_VARIANTS.value or algorithm.default_variants),
        cost_limits=parse_limits(_LIMITS.value, loaded.config.task),
        target_return=_TARGET.value,
        num_episodes=_EPISODES.value,
        first_seed=_FIRST_SEED.value,
        seed=_SEED.value,
        train_seed=_TRAIN_SEED.value,
        num_workers=_WORKERS.value,
        devices=_DEVICES.value,
        shift=_SHIFT.value,
    )
    critic = None
    if _CRITIC.value:
        critic = critic_file.load_critic(_CRITIC.value, loaded.spec)
    task = get_task(loaded.config.task)
    groups = sum(part.num_groups for part in passes_of(loaded.config, config))
    out = _OUT.value or os.path.join(_CHECKPOINT.value, "results.csv")
    total = groups * config.num_episodes * task.episode_steps
    with tqdm(total=total, desc=f"evaluate {task.name}", mininterval=0.5) as bar:
        run = evaluate(loaded, config, critic=critic, on_step=bar.update)
    rows = run.results
    results.write_results(out, rows)
    reference = "none" if "none" in config.variants else config.variants[0]
    for table in [
        *tables.threshold_tables(rows),
        *tables.paired_tables(rows, reference),
    ]:
        print(table.text())
    print(f"{len(rows)} rows in {out}")


if __name__ == "__main__":
    cli.run(main)
