"""Fits where the data are, in states and actions: what plan_supported keeps plans to.

python -m experiments.support --checkpoint=runs/pg1_dt --data=data/pg1.hdf5 \
    --out=runs/pg1_dt/guardian.npz
python -m experiments.support --checkpoint=runs/pg1_dt --data=data/pg1.hdf5 \
    --out=runs/pg1_dt/lyapunov.npz --set=kind=lyapunov
python -m experiments.evaluate --checkpoint=runs/pg1_dt --variants=plan,plan_supported \
    --support=runs/pg1_dt/guardian.npz

Episodes are split as the checkpoint's training split them. The report, on episodes that
chose nothing, is printed and written as JSON beside the file.
"""

from absl import flags

from experiments import cli

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_STEP = flags.DEFINE_integer("step", None, "Training step (default: the last).")
_OUT = cli.define_path("out", None, "File (default: CHECKPOINT/support.npz).")
_SEED = cli.define_seed("seed", 0, "Of the kernels, weights and batches.")

from experiments import fitting

cli.answer_help(__name__, __doc__)

from sas_jax.report.tables import Table
from sas_jax.support.file import save_support
from sas_jax.support.fit import fit_support
from sas_jax.support.model import SupportConfig


def main(argv):
    """Fits, saves, prints the table."""
    del argv
    report, path = fitting.fit_beside(
        "support",
        fit_support,
        save_support,
        SupportConfig(),
        workdir=_CHECKPOINT.value,
        step=_STEP.value,
        seed=_SEED.value,
        out=_OUT.value,
    )
    print(_table(report).text())
    print(path)


def _table(report: dict) -> Table:
    """The report, as finished texts."""
    rows = [
        (f"log-density a step, kernels of width {width}", f"{value:.2f}")
        for width, value in report["log_density"].items()
    ]
    rows.append(("width taken", f"{report['bandwidth']:g}"))
    rows += [
        (f"score, quantile {quantile}", f"{value:.2f}")
        for quantile, value in report["score"].items()
    ]
    rows.append(("level", f"{report['level']:.2f}"))
    rows.append(("share of steps within the level", f"{report['inside']:.3f}"))
    note = f"The score: {report['episodes']} held-out episodes that chose nothing."
    title = f"Nats off the data, {report['settings']['kind']}"
    return Table(title, ("", "value"), tuple(rows), (note,))


if __name__ == "__main__":
    cli.run(main)
