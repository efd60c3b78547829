"""The positive control of prompts: data of two worlds that only actions tell apart.

python -m experiments.collect --mixture=two_worlds --episodes=400 \
    --out=data/two_worlds.hdf5
python -m experiments.train --data=data/two_worlds.hdf5 --workdir=runs/two_worlds \
    --set=model.action_history=false --set=policy.prompt_prob=1
python -m experiments.worlds --checkpoint=runs/two_worlds --data=data/two_worlds.hdf5

Prompts of the same world, of the other one, and none: likelihood of held-out actions,
return and cost in both worlds (sas_jax/studies/worlds.py).
"""

import csv
import io

from absl import flags

from experiments import cli, data_flag
from sas_jax.errors import UserError

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_LAYOUTS = flags.DEFINE_integer(
    "layouts", 32, "Layouts to drive on; 0: none.", lower_bound=0, upper_bound=32
)
_FIRST = cli.define_seed("first_seed", 1_000_000, "First layout.")
_WORKERS = flags.DEFINE_integer("workers", None, "Environment processes (all cores).")
_OUT = cli.define_path("out", None, "CSV (default: CHECKPOINT/worlds.csv).")

cli.answer_help(__name__, __doc__)

import numpy as np
from tqdm import tqdm

from sas_jax import checkpoint
from sas_jax.files import atomic
from sas_jax.report.tables import Table
from sas_jax.stats.intervals import mean_interval
from sas_jax.studies import worlds
from sas_jax.studies.probe import make_probe


def main(argv):
    """Measures, writes the rows, prints the table."""
    del argv
    if not _CHECKPOINT.value or not data_flag.value():
        raise UserError("--checkpoint and --data: expected both")
    loaded = checkpoint.load(_CHECKPOINT.value)
    out = _OUT.value or f"{_CHECKPOINT.value}/worlds.csv"
    atomic.probe(out)
    episodes = data_flag.load(loaded.config.task)
    training, held_out = data_flag.split(
        episodes, loaded.config, loaded.spec, _CHECKPOINT.value
    )
    probe = make_probe(loaded)
    rows = worlds.likelihoods(probe, training, held_out)
    if _LAYOUTS.value:
        seeds = _FIRST.value + np.arange(_LAYOUTS.value)
        total = 2 * len(worlds.KINDS) * len(seeds) * probe.task.episode_steps
        with tqdm(total=total, desc="drive in both worlds", mininterval=0.5) as bar:
            rows += worlds.drives(
                probe,
                training,
                seeds,
                num_workers=_WORKERS.value,
                on_step=bar.update,
            )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(worlds.Row._fields)
    writer.writerows(rows)
    atomic.write_text(out, text.getvalue())
    print(table(rows).text())
    print(f"{len(rows)} rows in {out}")


def table(rows: list[worlds.Row]) -> Table:
    """Means by world and prompt, and what a prompt of the same world brings."""
    lines = []
    for measure in dict.fromkeys(row.measure for row in rows):
        for world in (1, -1):
            here = [r for r in rows if (r.measure, r.world) == (measure, world)]
            by_kind = {
                kind: np.array([r.value for r in here if r.prompt == kind])
                for kind in worlds.KINDS
            }
            cells = [_text(x) for x in by_kind.values()]
            cells += [_text(by_kind["same"] - by_kind[k]) for k in ("none", "other")]
            lines.append((f"{measure}, world {world:+d}", *cells))
    header = ("", *(f"prompt: {k}" for k in worlds.KINDS))
    header += ("same minus none", "same minus other")
    return Table("Prompts where only a prompt can tell", header, tuple(lines))


def _text(values: np.ndarray) -> str:
    found = mean_interval(values)
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


if __name__ == "__main__":
    cli.run(main)
