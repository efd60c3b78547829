"""What plans would do if the world model were the world: candidates tried out in it.

python -m experiments.true_world --checkpoint=runs/pg1_dt --episodes=32

Plays the same layouts without plans, with the model's plans, and with plans that are
rolled out in copies of the real environment (sas_jax/studies/true_world.py). Run again
to go on: an episode that is in the table is not played again.
"""

from absl import flags

from experiments import branched_flags, cli

_EPISODES = flags.DEFINE_integer("episodes", 32, "Layouts.")
_OUT = cli.define_path("out", None, "CSV (default: CHECKPOINT/true_world.csv).")

cli.answer_help(__name__, __doc__)

import dataclasses

from tqdm import tqdm

from sas_jax.files import results
from sas_jax.files.lock import FolderLock
from sas_jax.report import tables
from sas_jax.studies import true_world


def main(argv):
    """Plays what is missing, writes row by row, and prints the tables."""
    del argv
    asked = branched_flags.asked(_EPISODES.value, _OUT.value, "true_world.csv")
    own, out, run = asked.loaded.config.algo, asked.out, asked.run_of()
    parts = [("none", False), (asked.variant, False), (asked.variant, True)]
    lock = FolderLock(out.parent, f"a table {out.name}")
    try:
        rows = asked.table(results.read_results, lambda row: row.extra.get("run"), run)
        bar = tqdm(total=len(parts) * len(asked.seeds), unit="episode")
        for variant, is_true in parts:
            algo = own + (true_world.TRUE_WORLD if is_true else "")
            mine = [r for r in rows if (r.algo, r.variant) == (algo, variant)]
            done = {row.episode_seed for row in mine}
            bar.update(len(done.intersection(asked.seeds)))
            played = true_world.episodes(
                asked.loaded,
                variant,
                [seed for seed in asked.seeds if seed not in done],
                is_true=is_true,
                **asked.how,
            )
            for row in played:
                rows.append(dataclasses.replace(row, extra={"run": run}))
                results.write_results(out, rows)
                bar.update()
        bar.close()
    finally:
        lock.release()
    for table in tables.summary_tables(rows):
        print(table.text())
    print(out)


if __name__ == "__main__":
    cli.run(main, resumes=True)
