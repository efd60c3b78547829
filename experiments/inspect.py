"""Writes a page about a data set: pictures, measures, warnings.

python -m experiments.inspect --data=data/pg1.hdf5 --out=runs/inspect/pg1
"""

import pathlib

from absl import flags

from experiments import cli
from sas_jax import data
from sas_jax.data import quality
from sas_jax.errors import UserError
from sas_jax.report import data_page

_DATA = flags.DEFINE_string(
    "data", None, "HDF5 file, or a task whose DSRL file to get."
)
_TASK = flags.DEFINE_string("task", None, "Task, where the file does not tell.")
_OUT = flags.DEFINE_string("out", None, "Folder (default runs/inspect/NAME).")
_REFERENCE = flags.DEFINE_string("reference", None, "Data that coverage is related to.")


def main(argv):
    """Reads the data and writes the page; the warnings are printed, too."""
    del argv
    if not _DATA.value:
        raise UserError("--data is missing; expected a file or the name of a task")
    episodes = data.load(_DATA.value, task=_TASK.value)
    reference = data.load(_REFERENCE.value) if _REFERENCE.value else None
    name = pathlib.Path(_DATA.value).stem
    page = data_page.write_page(
        _OUT.value or f"runs/inspect/{name}",
        episodes,
        source=_DATA.value,
        reference=reference,
    )
    for line in quality.warnings(episodes):
        print(f"warning: {line}")
    print(f"{episodes.task}: {episodes.num_episodes} episodes; page: {page}")


if __name__ == "__main__":
    cli.run(main)
