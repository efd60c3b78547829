"""The flags that the model's benchmarks share, apart from what can be imported freely.

Flags are global to a process: only what is run as a script may define them.
"""

from absl import flags

from sas_jax import learners
from sas_jax.envs.tasks import get_task
from sas_jax.experiment import ExperimentConfig

TASK = flags.DEFINE_string("task", "PointGoal1", "Task whose sizes the model has.")
SET = flags.DEFINE_multi_string(
    "set", [], "Dotted setting, e.g. --set=model.decoder.width=64. May be repeated."
)
THREADS = flags.DEFINE_integer("threads", 1, "Cores that the benchmark is pinned to.")
REPEATS = flags.DEFINE_integer("repeats", 7, "Rounds, each of all cases in turns.")


def settings(**others: object) -> dict[str, object]:
    """The shared flags' values and `others`, for the JSON."""
    return {
        "task": TASK.value,
        "set": SET.value,
        "threads": THREADS.value,
        "repeats": REPEATS.value,
        **others,
    }


def make_config(algo: str = "dt") -> ExperimentConfig:
    """The paper's configuration with the settings of --set."""
    task = get_task(TASK.value).name
    return learners.override(learners.default_config(task, algo), SET.value)
