"""Measures a checkpoint's world-model card anew, under other settings if asked.

python -m experiments.card --checkpoint=runs/pg1_dt --data=data/pg1.hdf5 --whole=1000

The card that training wrote stays as it is; this one goes to --out as JSON.
"""

import json

from absl import flags

from experiments import cli, data_flag, settings_flag
from sas_jax.errors import UserError

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_STEP = flags.DEFINE_integer("step", None, "Training step (default: the last).")
_STARTS = flags.DEFINE_integer("starts", 256, "Held-out starts.")
_CANDIDATES = flags.DEFINE_integer("candidates", 8, "Imaginations per start.")
_WHOLE = flags.DEFINE_integer("whole", 64, "Imaginations of whole episodes.")
_TRAIN_SEED = flags.DEFINE_integer("train_seed", 0, "Index of the training seed.")
_OUT = cli.define_path("out", None, "JSON (default: CHECKPOINT/card.json).")

cli.answer_help(__name__, __doc__)

import jax

from sas_jax import checkpoint
from sas_jax.card import measure
from sas_jax.files import atomic
from sas_jax.report.card_table import card_table


def main(argv):
    """Measures, prints the table, writes the JSON."""
    del argv
    if not _CHECKPOINT.value or not data_flag.value():
        raise UserError("--checkpoint and --data: expected both")
    loaded = checkpoint.load(_CHECKPOINT.value, _STEP.value)
    config = settings_flag.apply(loaded.config)
    lane = config.train.lane_of(_TRAIN_SEED.value)
    out = _OUT.value or f"{_CHECKPOINT.value}/card.json"
    atomic.probe(out)
    episodes = data_flag.load(config.task)
    _, held_out = data_flag.split(episodes, config, loaded.spec, _CHECKPOINT.value)
    measured = measure.make_card(
        config,
        loaded.spec,
        jax.tree.map(lambda x: x[lane], loaded.state),
        held_out,
        num_starts=_STARTS.value,
        num_candidates=_CANDIDATES.value,
        num_whole_episodes=_WHOLE.value,
    )
    atomic.write_text(
        out, json.dumps({"set": settings_flag.texts()} | measured, indent=1)
    )
    print(card_table(measured).text())
    print(out)


if __name__ == "__main__":
    cli.run(main)
