"""Fits which return a policy is asked for under a budget, for the variants cprtg.

python -m experiments.asking --checkpoint=runs/pg1_cdt --data=data/pg1.hdf5 \
    --out=runs/pg1_cdt/asking.npz --set=first_quantile=0.9
python -m experiments.evaluate --checkpoint=runs/pg1_cdt --variants=none,cprtg \
    --asking=runs/pg1_cdt/asking.npz

Episodes are split as the checkpoint's training split them. The report, on episodes that
chose nothing, is printed and written as JSON beside the file.
"""

import json

from absl import flags
from tqdm import tqdm

from experiments import cli, data_flag, settings_flag
from sas_jax.errors import UserError

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_STEP = flags.DEFINE_integer("step", None, "Training step (default: the last).")
_OUT = cli.define_path("out", None, "File (default: CHECKPOINT/asking.npz).")
_SEED = cli.define_seed("seed", 0, "Of the weights and batches.")

cli.answer_help(__name__, __doc__)

from sas_jax import checkpoint
from sas_jax import config as config_lib
from sas_jax.asking.file import save_asking
from sas_jax.asking.fit import fit_asking
from sas_jax.asking.network import AskingConfig
from sas_jax.files import atomic
from sas_jax.report.tables import Table


def main(argv):
    """Fits, saves, prints the table."""
    del argv
    if not _CHECKPOINT.value or not data_flag.value():
        raise UserError("--checkpoint and --data: expected both")
    config = settings_flag.apply(
        AskingConfig(), merge=config_lib.merge, override=config_lib.override
    )
    loaded = checkpoint.load(_CHECKPOINT.value, _STEP.value)
    train = loaded.config.train
    out = _OUT.value or f"{_CHECKPOINT.value}/asking.npz"
    atomic.probe(out)
    episodes = data_flag.load(loaded.config.task)
    data_flag.split(episodes, loaded.config, loaded.spec, _CHECKPOINT.value)
    with tqdm(desc="asking", unit="step", total=config.num_steps) as bar:

        def show(step, loss):
            bar.update(step - bar.n)
            bar.set_postfix(held_out_nll=f"{loss:.4f}", refresh=False)

        asking, report = fit_asking(
            episodes,
            loaded.spec,
            config,
            _SEED.value,
            held_out=train.held_out,
            split_seed=train.seed,
            on_look=show,
        )
    save_asking(out, asking, report)
    atomic.write_text(f"{out}.json", json.dumps(report, indent=1))
    print(_table(report).text())
    print(out)


def _table(report: dict) -> Table:
    """The report, as finished texts."""
    names = {
        "nll": "nats a step",
        "nll_of_normal": "of one normal distribution for all steps",
        "correlation": "correlation of mean and return to go",
    }
    rows = [(text, f"{report[name]:.3f}") for name, text in names.items()]
    rows += [
        (f"share of returns below quantile {quantile}", f"{share:.3f}")
        for quantile, share in report["below"].items()
    ]
    note = f"{report['episodes']} held-out episodes that chose nothing."
    return Table(
        "Return to go, given what is seen and the cost to go",
        ("", "value"),
        tuple(rows),
        (note,),
    )


if __name__ == "__main__":
    cli.run(main)
