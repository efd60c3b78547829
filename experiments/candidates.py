"""What plans' candidates promise and what they bring, tried out in copies of the world.

python -m experiments.candidates --checkpoint=runs/pg1_dt --variant=plan --episodes=8

Plays layouts under a variant that plans. At one of so many plans every candidate's
actions are executed in a copy of the environment. The tables say how right the imagined
costs and returns are, and what would have been chosen if they were
(sas_jax/studies/candidate_trials.py). Run again to go on: a layout that is in the file
is not played again.
"""

from absl import flags

from experiments import cli, settings_flag
from sas_jax.errors import UserError

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_VARIANT = flags.DEFINE_string("variant", "plan", "A variant that plans.")
_EPISODES = flags.DEFINE_integer("episodes", 8, "Layouts.")
_FIRST = cli.define_seed("first_seed", 1_000_000, "Seed of the first layout.")
_LIMIT = flags.DEFINE_float("cost_limit", None, "Threshold (default: the strictest).")
_EVERY = flags.DEFINE_integer("every", 5, "One of so many plans is tried out.")
_SEED = cli.define_seed("seed", 0, "Of the agent's draws.")
_TRAIN_SEED = flags.DEFINE_integer("train_seed", 0, "Index of the training seed.")
_OUT = cli.define_path("out", None, "CSV (default: CHECKPOINT/candidates.csv).")

cli.answer_help(__name__, __doc__)

from pathlib import Path

from tqdm import tqdm

from sas_jax import checkpoint
from sas_jax.alignment.variants import check_variants, planning_of
from sas_jax.envs.tasks import get_task
from sas_jax.files import atomic, csv_table
from sas_jax.files.lock import FolderLock
from sas_jax.files.log_table import read_log
from sas_jax.studies import branched_play, candidate_trials, trial_tables


def main(argv):
    """Plays what is missing, writes layout by layout, and prints the tables."""
    del argv
    if not _CHECKPOINT.value:
        raise UserError("--checkpoint: expected a workdir of experiments.train")
    if min(_EPISODES.value, _EVERY.value) < 1:
        raise UserError("--episodes and --every: expected at least 1")
    if planning_of(check_variants((_VARIANT.value,))) is None:
        raise UserError(
            f"--variant: {_VARIANT.value!r} does not plan; expected one such as plan"
        )
    loaded = checkpoint.load(_CHECKPOINT.value)
    loaded = loaded._replace(config=settings_flag.apply(loaded.config, only="sas."))
    task = get_task(loaded.config.task)
    limit = min(task.cost_limits) if _LIMIT.value is None else _LIMIT.value
    out = Path(_OUT.value or f"{_CHECKPOINT.value}/candidates.csv")
    atomic.probe(out)
    decided = (limit, _VARIANT.value, _EVERY.value, _SEED.value, _TRAIN_SEED.value)
    about = {
        "task": task.name,
        "variant": _VARIANT.value,
        "cost_limit": f"{limit:g}",
        "train_seed": str(_TRAIN_SEED.value),
        "run": branched_play.run_of(loaded, *decided),
    }
    seeds = range(_FIRST.value, _FIRST.value + _EPISODES.value)
    lock = FolderLock(out.parent, f"a table {out.name}")
    try:
        rows = read_log(out) if out.exists() else []
        if any(row.get("run") != about["run"] for row in rows):
            raise UserError(
                f"{out}: has rows of another checkpoint, variant, threshold, seed, "
                "--every or --set; expected another --out"
            )
        done = {int(row["episode_seed"]) for row in rows}
        missing = [seed for seed in seeds if seed not in done]
        played = candidate_trials.trials(
            loaded,
            _VARIANT.value,
            missing,
            cost_limit=limit,
            every=_EVERY.value,
            seed=_SEED.value,
            train_seed=_TRAIN_SEED.value,
        )
        for new in tqdm(played, total=len(missing), unit="episode"):
            rows += [
                {name: str(value) for name, value in (about | row).items()}
                for row in new
            ]
            csv_table.write(out, rows)
    finally:
        lock.release()
    for table in trial_tables.tables(rows, loaded.config.sas):
        print(table.text())
    print(out)


if __name__ == "__main__":
    cli.run(main, resumes=True)
