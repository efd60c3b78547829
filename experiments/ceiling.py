"""What perfect dynamics would predict of held-out costs, from the real environment.

python -m experiments.ceiling --checkpoint=runs/pg1_dt --data=data/pg1.hdf5

The data must be a recording of experiments.collect, which names its layouts.
"""

import dataclasses
import json

from absl import flags

from experiments import cli, data_flag
from sas_jax.errors import UserError

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_STARTS = flags.DEFINE_integer("starts", 128, "Held-out states.")
_BRANCHES = flags.DEFINE_integer("branches", 4, "Real rollouts of each.")
_WORKERS = flags.DEFINE_integer("workers", None, "Environment processes (all cores).")
_OUT = cli.define_path("out", None, "JSON (default: CHECKPOINT/ceiling.json).")

cli.answer_help(__name__, __doc__)

import jax
import numpy as np

from sas_jax import checkpoint
from sas_jax.card.ceiling import ceiling
from sas_jax.data import hdf5
from sas_jax.files import atomic
from sas_jax.learners import sequence
from sas_jax.report.tables import Table


def main(argv):
    """Measures, prints the table, writes the JSON."""
    del argv
    if not _CHECKPOINT.value or not data_flag.value():
        raise UserError("--checkpoint and --data: expected both")
    loaded = checkpoint.load(_CHECKPOINT.value)
    config = loaded.config
    out = _OUT.value or f"{_CHECKPOINT.value}/ceiling.json"
    atomic.probe(out)
    episodes = data_flag.load(config.task)
    with hdf5.open_file(episodes.source) as file:
        if "episodes" not in file or "seed" not in file["episodes"]:
            raise UserError(
                f"--data {episodes.source}: no column episodes/seed; expected a "
                "recording of experiments.collect, whose layouts are known"
            )
        seeds = np.asarray(file["episodes"]["seed"])
    _, held_out = data_flag.split(episodes, config, loaded.spec, _CHECKPOINT.value)
    # The same split of a copy whose final observations are the episodes' numbers.
    numbers = np.arange(episodes.num_episodes, dtype=np.float32)
    tagged = dataclasses.replace(
        episodes, final_observations=np.repeat(numbers[:, None], episodes.obs_dim, 1)
    )
    tagged = tagged.split(config.train.held_out, seed=config.train.seed)[1]
    index = tagged.final_observations[:, 0].astype(int)
    measured = ceiling(
        sequence.make_sequence_model(config, loaded.spec),
        loaded.spec,
        sequence.variables_of(jax.tree.map(lambda x: x[0], loaded.state)),
        held_out,
        seeds[index],
        num_starts=_STARTS.value,
        num_branches=_BRANCHES.value,
        num_workers=_WORKERS.value,
    )
    atomic.write_text(out, json.dumps(measured, indent=1))
    columns = ("horizons", "correlation", "correlation_single")
    columns += ("rate_policy", "rate_data")
    rows = zip(*(measured[name] for name in columns), strict=True)
    rows = tuple(tuple(f"{value:.3g}" for value in row) for row in rows)
    print(Table("Real rollouts against the data's future", columns, rows, ()).text())
    print(out)


if __name__ == "__main__":
    cli.run(main)
