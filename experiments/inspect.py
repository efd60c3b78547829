"""Writes a page about a data set, or lists the checkpoints of a run.

python -m experiments.inspect --data=data/pg1.hdf5 --out=runs/inspect/pg1
python -m experiments.inspect --checkpoint=runs/pg1_dt
"""

import pathlib
import warnings

from absl import flags

from experiments import cli, data_flag
from sas_jax.errors import UserError

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_TASK = flags.DEFINE_string("task", None, "Task, where the file does not tell.")
_OUT = cli.define_path("out", None, "Folder (default runs/inspect/NAME).")
_REFERENCE = cli.define_path("reference", None, "Data that coverage is related to.")

cli.answer_help(__name__, __doc__)

from sas_jax import checkpoint, data
from sas_jax.data import findings
from sas_jax.files.log_table import read_log
from sas_jax.files.places import as_path
from sas_jax.report import data_page


def list_checkpoints(workdir: str) -> str:
    """A line for each checkpoint: step, share of the training, losses of the seeds."""
    losses: dict[int, list[str]] = {}
    path = as_path(workdir) / "metrics.csv"
    if path.exists():
        for row in read_log(path):
            if row.get("val_loss"):
                lane = f"seed {row['seed']}"
                if row.get("cost_limit"):
                    lane += f", cost limit {float(row['cost_limit']):g}"
                text = f"{float(row['val_loss']):.3f} ({lane})"
                losses.setdefault(int(row["step"]), []).append(text)
    lines = []
    for step, config in checkpoint.list_steps(workdir):
        train = config.train
        kept = ", kept for good" if step in train.kept_steps else ""
        loss = ", ".join(losses.get(step, ["not measured"]))
        share = f"{step / train.num_steps:.1%} of {train.num_steps}"
        lines.append(f"step {step}: {share}{kept}; held-out loss {loss}")
    return "\n".join(lines)


def main(argv):
    """Reads the data and writes the page; the warnings are printed, too."""
    del argv
    if _CHECKPOINT.value:
        print(list_checkpoints(_CHECKPOINT.value))
    if _CHECKPOINT.value and not data_flag.value():
        return
    if not data_flag.value():
        raise UserError("--data is missing; expected it, or a --checkpoint")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", data.DataWarning)
        episodes = data_flag.load(_TASK.value)
    notes = [str(warning.message) for warning in caught]
    reference = None
    if _REFERENCE.value:
        reference = data.load(_REFERENCE.value, task=episodes.task)
    name = pathlib.Path(episodes.source).stem
    page = data_page.write_page(
        _OUT.value or f"runs/inspect/{name}",
        episodes,
        source=episodes.source,
        reference=reference,
        notes=notes,
    )
    for line in [*notes, *findings.look(episodes)]:
        print(f"warning: {line}")
    print(f"{episodes.task}: {episodes.num_episodes} episodes; page: {page}")


if __name__ == "__main__":
    cli.run(main)
