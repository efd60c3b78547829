"""What the scripted behaviours reach on every task, beside DSRL's ranges, as a CSV.

python -m experiments.collect_table --episodes=16

Records each task into DATA/TASK.hdf5 unless that recording is there, then writes one
row per task. `safe_*` are about episodes within the task's strictest threshold.
"""

import importlib.metadata
import pathlib

from absl import flags
from tqdm import tqdm

from experiments import cli
from sas_jax.errors import UserError

_TASKS = flags.DEFINE_list("tasks", None, "Tasks (default: all with a behaviour).")
_EPISODES = flags.DEFINE_integer("episodes", 16, "Episodes of each task.")
_SEED = cli.define_seed("seed", 0, "Seed of layouts, behaviours and noise.")
_DATA = cli.define_path(
    "data", "data/behaviours", "Folder of the recordings.", is_local=True
)
_OUT = cli.define_path("out", "runs/behaviours.csv", "Table to write.")
_WORKERS = flags.DEFINE_integer("workers", None, "Processes (default: all cores).")

cli.answer_help(__name__, __doc__)

from sas_jax.data import collect
from sas_jax.data.behaviours import dials
from sas_jax.data.episodes import Episodes
from sas_jax.envs import tasks
from sas_jax.files import atomic, csv_table


def main(argv):
    """Records what is missing, prints every task's summary, writes the table."""
    del argv
    names = _TASKS.value
    if names is None:
        names = [
            task.name
            for task in tasks.TASKS.values()
            if task.obs_groups and task.suite == "safety-gymnasium"
        ]
    plans = [collect.Plan(name, _EPISODES.value, _SEED.value) for name in names]
    if not plans:
        raise UserError("--tasks is empty; expected names of tasks")
    rows = []
    with tqdm(total=_EPISODES.value * len(plans), desc="collect", unit="ep") as bar:
        for number, plan in enumerate(plans):
            bar.set_postfix_str(plan.task)
            before = number * plan.episodes

            def show(done: int, total: int, before=before) -> None:
                del total
                bar.update(before + done - bar.n)

            out = pathlib.Path(_DATA.value) / f"{plan.task}.hdf5"
            episodes = collect.collect(plan, out, workers=_WORKERS.value, progress=show)
            show(plan.episodes, plan.episodes)
            bar.write(collect.summary(episodes))
            rows.append(_row(episodes))
    atomic.write_text(_OUT.value, _csv(rows))
    print(f"written to {_OUT.value}")


def _row(episodes: Episodes) -> dict[str, str | int]:
    """One line of the table."""
    task = tasks.get_task(episodes.task)
    returns, costs = episodes.returns(), episodes.cost_returns()
    row = {"task": task.name, "episodes": episodes.num_episodes}
    for name, values in (("return", returns), ("cost", costs)):
        row[f"{name}_min"] = f"{values.min():.2f}"
        row[f"{name}_mean"] = f"{values.mean():.2f}"
        row[f"{name}_max"] = f"{values.max():.2f}"
        for end in ("min", "max"):
            row[f"dsrl_{name}_{end}"] = (
                f"{getattr(task.references, f'{name}_{end}'):.2f}"
            )
    safe = costs <= min(task.cost_limits)
    row["safe_limit"] = f"{min(task.cost_limits):g}"
    row["safe_episodes"] = int(safe.sum())
    row["safe_return_max"] = f"{returns[safe].max():.2f}" if safe.any() else ""
    return row


def _csv(rows: list[dict]) -> str:
    """The table below a comment line that says how it was made."""
    mujoco = importlib.metadata.version("mujoco")
    return (
        f"# python -m experiments.collect_table --episodes={_EPISODES.value} "
        f"--seed={_SEED.value} (behaviours {dials.VERSION}, mujoco {mujoco})\n"
        + csv_table.text_of(rows)
    )


if __name__ == "__main__":
    cli.run(main, resumes=True)
