"""What plans' candidates promise and what they bring, tried out in copies of the world.

python -m experiments.candidates --checkpoint=runs/pg1_dt --variant=plan --episodes=8

Plays layouts under a variant that plans. At one of so many plans every candidate's
actions are executed in a copy of the environment. The tables say how right the imagined
costs and returns are, and what would have been chosen if they were
(sas_jax/studies/candidate_trials.py). Run again to go on: a layout that is in the file
is not played again.
"""

from absl import flags

from experiments import branched_flags, cli
from sas_jax.errors import UserError

_EPISODES = flags.DEFINE_integer("episodes", 8, "Layouts.")
_EVERY = flags.DEFINE_integer("every", 5, "One of so many plans is tried out.")
_OUT = cli.define_path("out", None, "CSV (default: CHECKPOINT/candidates.csv).")

cli.answer_help(__name__, __doc__)

from tqdm import tqdm

from sas_jax.files import csv_table
from sas_jax.files.lock import FolderLock
from sas_jax.files.log_table import read_log
from sas_jax.studies import candidate_trials, trial_tables


def main(argv):
    """Plays what is missing, writes layout by layout, and prints the tables."""
    del argv
    if _EVERY.value < 1:
        raise UserError("--every: expected at least 1")
    asked = branched_flags.asked(_EPISODES.value, _OUT.value, "candidates.csv")
    about = {
        "task": asked.task,
        "variant": asked.variant,
        "cost_limit": f"{asked.how['cost_limit']:g}",
        "train_seed": str(asked.how["train_seed"]),
        # A table from before there were speeds is another run's.
        "run": asked.run_of(asked.variant, _EVERY.value, *candidate_trials.SPEEDS),
    }
    lock = FolderLock(asked.out.parent, f"a table {asked.out.name}")
    try:
        rows = asked.table(read_log, lambda row: row.get("run"), about["run"])
        done = {int(row["episode_seed"]) for row in rows}
        missing = [seed for seed in asked.seeds if seed not in done]
        played = candidate_trials.trials(
            asked.loaded, asked.variant, missing, every=_EVERY.value, **asked.how
        )
        for new in tqdm(played, total=len(missing), unit="episode"):
            rows += [
                {name: str(value) for name, value in (about | row).items()}
                for row in new
            ]
            csv_table.write(asked.out, rows)
    finally:
        lock.release()
    for table in trial_tables.tables(rows, asked.loaded.config.sas):
        print(table.text())
    print(asked.out)


if __name__ == "__main__":
    cli.run(main, resumes=True)
