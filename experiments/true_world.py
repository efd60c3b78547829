"""What plans would do if the world model were the world: candidates tried out in it.

python -m experiments.true_world --checkpoint=runs/pg1_dt --episodes=32

Plays the same layouts without plans, with the model's plans, and with plans that are
rolled out in copies of the real environment (sas_jax/studies/true_world.py). Run again
to go on: an episode that is in the table is not played again.
"""

from absl import flags

from experiments import cli, settings_flag
from sas_jax.errors import UserError

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_VARIANT = flags.DEFINE_string("variant", "plan", "A variant that plans.")
_EPISODES = flags.DEFINE_integer("episodes", 32, "Layouts.")
_FIRST = cli.define_seed("first_seed", 1_000_000, "Seed of the first layout.")
_LIMIT = flags.DEFINE_float("cost_limit", None, "Threshold (default: the strictest).")
_SEED = cli.define_seed("seed", 0, "Of the agent's draws.")
_TRAIN_SEED = flags.DEFINE_integer("train_seed", 0, "Index of the training seed.")
_OUT = cli.define_path("out", None, "CSV (default: CHECKPOINT/true_world.csv).")

cli.answer_help(__name__, __doc__)

import dataclasses
from pathlib import Path

from tqdm import tqdm

from sas_jax import checkpoint
from sas_jax.alignment.variants import check_variants, planning_of
from sas_jax.envs.tasks import get_task
from sas_jax.files import atomic, results
from sas_jax.files.lock import FolderLock
from sas_jax.report import tables
from sas_jax.studies import branched_play, true_world


def main(argv):
    """Plays what is missing, writes row by row, and prints the tables."""
    del argv
    if not _CHECKPOINT.value:
        raise UserError("--checkpoint: expected a workdir of experiments.train")
    if _EPISODES.value < 1:
        raise UserError("--episodes: expected at least 1")
    if planning_of(check_variants((_VARIANT.value,))) is None:
        raise UserError(
            f"--variant: {_VARIANT.value!r} does not plan; expected one such as plan"
        )
    loaded = checkpoint.load(_CHECKPOINT.value)
    loaded = loaded._replace(config=settings_flag.apply(loaded.config, only="sas."))
    task = get_task(loaded.config.task)
    limit = min(task.cost_limits) if _LIMIT.value is None else _LIMIT.value
    out = Path(_OUT.value or f"{_CHECKPOINT.value}/true_world.csv")
    atomic.probe(out)
    run = branched_play.run_of(loaded, limit, _SEED.value, _TRAIN_SEED.value)
    seeds = range(_FIRST.value, _FIRST.value + _EPISODES.value)
    parts = [("none", False), (_VARIANT.value, False), (_VARIANT.value, True)]
    lock = FolderLock(out.parent, f"a table {out.name}")
    try:
        rows = results.read_results(out) if out.exists() else []
        if any(row.extra.get("run") != run for row in rows):
            raise UserError(
                f"{out}: has rows of another checkpoint, threshold, seed or --set; "
                "expected another --out"
            )
        bar = tqdm(total=len(parts) * len(seeds), unit="episode")
        for variant, is_true in parts:
            algo = loaded.config.algo + (true_world.TRUE_WORLD if is_true else "")
            mine = [r for r in rows if (r.algo, r.variant) == (algo, variant)]
            done = {row.episode_seed for row in mine}
            bar.update(len(done.intersection(seeds)))
            played = true_world.episodes(
                loaded,
                variant,
                [s for s in seeds if s not in done],
                cost_limit=limit,
                is_true=is_true,
                seed=_SEED.value,
                train_seed=_TRAIN_SEED.value,
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
