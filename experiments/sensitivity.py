"""Which sensors a policy leans on, here and in changed worlds.

python -m experiments.sensitivity --checkpoint=runs/demo/model --layouts=8 \
    --shift= --shift=actuator:0.8,mass:1.3

Along real episodes of the plain policy: how far its mean action moves for a small
change of the observation, in units of the data's deviations, in the direction that
moves it most, and what each group of sensors has of that direction
(sas_jax/studies/sensitivity.py).
"""

from absl import flags

from experiments import cli
from sas_jax.errors import UserError

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_LAYOUTS = flags.DEFINE_integer("layouts", 8, "Layouts to drive on.", lower_bound=2)
_FIRST = cli.define_seed("first_seed", 1_000_000, "First layout.")
_EVERY = flags.DEFINE_integer("every", 10, "Steps between two looks.")
_LIMIT = flags.DEFINE_float("cost_limit", None, "Threshold (default: the task's).")
_SHIFTS = flags.DEFINE_multi_string(
    "shift", [""], "A world to drive in; may be repeated; '' is the task's own."
)
_WORKERS = flags.DEFINE_integer("workers", None, "Environment processes (all cores).")
_OUT = cli.define_path("out", None, "CSV (default: CHECKPOINT/sensitivity.csv).")

cli.answer_help(__name__, __doc__)

import csv
import io

import numpy as np
from tqdm import tqdm

from sas_jax import checkpoint
from sas_jax.evaluation.evaluate import task_of
from sas_jax.files import atomic
from sas_jax.report.tables import Table
from sas_jax.stats.intervals import mean_interval
from sas_jax.studies import sensitivity

_HEADER = ("shift", "measure", "group", "episode_seed", "value")


def main(argv):
    """Measures, writes the rows, prints the table."""
    del argv
    if not _CHECKPOINT.value:
        raise UserError("--checkpoint: expected one")
    loaded = checkpoint.load(_CHECKPOINT.value)
    out = _OUT.value or f"{_CHECKPOINT.value}/sensitivity.csv"
    atomic.probe(out)
    task = task_of(loaded, 0)
    groups = task.obs_groups or {"all": slice(0, task.obs_dim)}
    seeds = _FIRST.value + np.arange(_LAYOUTS.value)
    limit = task.cost_limits[0] if _LIMIT.value is None else _LIMIT.value
    rows = []
    total = len(_SHIFTS.value) * len(seeds) * task.episode_steps
    with tqdm(total=total, desc="sensitivity", unit="step", mininterval=0.5) as bar:
        for shift in _SHIFTS.value:
            found = sensitivity.measure(
                loaded,
                seeds,
                cost_limit=limit,
                every=_EVERY.value,
                shift=shift,
                num_workers=_WORKERS.value,
                on_step=bar.update,
            )
            rows += _rows(shift, found, groups, seeds)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_HEADER, *rows])
    atomic.write_text(out, text.getvalue())
    print(_table(rows, _SHIFTS.value, groups).text())
    print(f"{len(rows)} rows in {out}")


def _rows(shift, found, groups, seeds):
    """A row for every episode, measure and group."""
    share = sensitivity.by_group(found.share, groups)
    measured = [("largest", "", found.largest)]
    measured += [("share", *of) for of in zip(groups, share.T, strict=True)]
    return [
        (shift, measure, group, int(seed), float(value))
        for measure, group, values in measured
        for seed, value in zip(seeds, values, strict=True)
    ]


def _table(rows, shifts, groups) -> Table:
    """Means over episodes with intervals; a column a world."""

    def text(shift, measure, group):
        own = [r[4] for r in rows if r[:3] == (shift, measure, group)]
        found = mean_interval(np.array(own))
        return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"

    lines = [("largest singular value", *(text(s, "largest", "") for s in shifts))]
    lines += [(name, *(text(s, "share", name) for s in shifts)) for name in groups]
    header = ("", *(shift or "the task's own world" for shift in shifts))
    return Table("What moves the mean action most, by sensors", header, tuple(lines))


if __name__ == "__main__":
    cli.run(main)
