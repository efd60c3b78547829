"""Fits which return a policy is asked for under a budget, for the variants cprtg.

python -m experiments.asking --checkpoint=runs/pg1_cdt --data=data/pg1.hdf5 \
    --out=runs/pg1_cdt/asking.npz --set=first_quantile=0.9
python -m experiments.evaluate --checkpoint=runs/pg1_cdt --variants=none,cprtg \
    --asking=runs/pg1_cdt/asking.npz

Episodes are split as the checkpoint's training split them. The report, on episodes that
chose nothing, is printed and written as JSON beside the file.
"""

from absl import flags

from experiments import cli

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_STEP = flags.DEFINE_integer("step", None, "Training step (default: the last).")
_OUT = cli.define_path("out", None, "File (default: CHECKPOINT/asking.npz).")
_SEED = cli.define_seed("seed", 0, "Of the weights and batches.")

from experiments import fitting

cli.answer_help(__name__, __doc__)

from sas_jax.asking.file import save_asking
from sas_jax.asking.fit import fit_asking
from sas_jax.asking.network import AskingConfig
from sas_jax.report.tables import Table


def main(argv):
    """Fits, saves, prints the table."""
    del argv
    report, path = fitting.fit_beside(
        "asking",
        fit_asking,
        save_asking,
        AskingConfig(),
        workdir=_CHECKPOINT.value,
        step=_STEP.value,
        seed=_SEED.value,
        out=_OUT.value,
    )
    print(_table(report).text())
    print(path)


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
