"""Trains DT or CDT on a DSRL file; run again with the same flags to resume.

python -m experiments.train --task=PointGoal1 --data=data/pg1.hdf5 --workdir=runs/pg1_dt
"""

from absl import flags

from experiments import cli
from experiments.progress import describe_card, progress_bar
from sas_jax import card, train
from sas_jax import config as config_lib
from sas_jax.data import dsrl
from sas_jax.envs.tasks import get_task
from sas_jax.errors import UserError
from sas_jax.experiment import ALGORITHMS, default_config

_TASK = flags.DEFINE_string("task", "PointGoal1", "Task that the data is of.")
_DATA = flags.DEFINE_string("data", None, "DSRL file, or none to look it up by task.")
_ALGO = flags.DEFINE_string("algo", "dt", f"One of {', '.join(ALGORITHMS)}.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run (required).")
_SET = flags.DEFINE_multi_string(
    "set", [], "Dotted setting, e.g. --set=train.num_steps=1000. May be repeated."
)
_CARD = flags.DEFINE_bool("card", True, "End by measuring the world-model card.")


def main(argv):
    """Trains and prints where the results lie."""
    del argv
    if not _WORKDIR.value:
        raise UserError("--workdir: expected a folder for the run")
    task = get_task(_TASK.value).name
    if _ALGO.value not in ALGORITHMS:
        raise UserError(
            f"--algo: unknown {_ALGO.value!r}; expected one of {', '.join(ALGORITHMS)}"
        )
    config = config_lib.override(default_config(task, _ALGO.value), _SET.value)
    episodes = dsrl.load(_DATA.value or task, task=task)
    bar, show = progress_bar(f"train {config.algo} on {task}")
    with bar:
        result = train.fit(
            config,
            episodes,
            _WORKDIR.value,
            make_card=card.make_card if _CARD.value else None,
            progress=show,
        )
    if result.card:
        print(describe_card(result.card))
    print(f"step {result.step}; checkpoints and metrics.csv in {_WORKDIR.value}")


if __name__ == "__main__":
    cli.run(main)
