"""Trains an algorithm on a DSRL file; run again with the same flags to resume.

python -m experiments.train --task=PointGoal1 --data=data/pg1.hdf5 --workdir=runs/pg1_dt
python -m experiments.train --task=PlanePointGoal --algo=sac_alam --workdir=runs/alam

The second one needs no data: sac and its safe kin act while they learn, tasks in JAX on
the device, all others in processes of this machine's.

On several hosts, the same command on each, with --hosts where the cluster can be asked
(TPU VMs, Slurm), else with --coordinator_address, --num_processes and --process_id. All
of them read the same data and see the same workdir.
"""

import json

from absl import flags

from experiments import cli, data_flag, settings_flag
from experiments.progress import describe_card, progress_bar
from sas_jax.errors import UserError

_TASK = flags.DEFINE_string(
    "task", None, "Task (default: what --data says; without it, whose file to get)."
)
_ALGO = flags.DEFINE_string(
    "algo",
    None,
    "Such as cdt or bc; a wrong one lists all (default: --config's, or dt).",
)
_WORKDIR = cli.define_path("workdir", None, "Folder of the run (required).")
_HOSTS = flags.DEFINE_bool("hosts", False, "Join the hosts that the cluster names.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "host:port of process 0, to join hosts by hand."
)
_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes on all hosts.")
_PROCESS = flags.DEFINE_integer("process_id", None, "This process, from 0.")
_WORKERS = flags.DEFINE_integer(
    "workers",
    None,
    "Environment processes of what acts while it learns (all cores).",
    lower_bound=1,
)
_SINKS = flags.DEFINE_list(
    "sinks", [], "Where curves go besides metrics.csv: tensorboard, wandb."
)
_CARD = flags.DEFINE_bool("card", True, "End by measuring the world-model card.")

cli.answer_help(__name__, __doc__)

from sas_jax import config as config_lib
from sas_jax import learners
from sas_jax.card import measure
from sas_jax.envs.tasks import get_task
from sas_jax.files import atomic
from sas_jax.files.places import as_path
from sas_jax.online import fit as online_fit
from sas_jax.training import devices
from sas_jax.training import fit as training_fit


def main(argv):
    """Trains and prints where the results lie."""
    del argv
    task = get_task(_TASK.value).name if _TASK.value else None
    algorithm = learners.get(_ALGO.value or settings_flag.from_file().get("algo", "dt"))
    if settings_flag.is_listing():
        settings_flag.apply(algorithm.default_config(task or "PointGoal1"))
    if not _WORKDIR.value:
        raise UserError("--workdir: expected a folder for the run")
    if algorithm.make_explorer is not None:
        _train_online(algorithm, task or "PlanePointGoal")
        return
    if _WORKERS.value is not None:
        raise UserError(
            f"--workers: algo {algorithm.name!r} learns from recorded data; expected "
            "none"
        )
    hosts = (_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    if _HOSTS.value or any(x is not None for x in hosts):
        devices.start_hosts(*hosts)
    first = devices.is_first_host()
    episodes = data_flag.load(task, default=task, is_shown=first)
    default = algorithm.default_config(episodes.task)
    config = settings_flag.apply(default)
    if config.task != episodes.task:
        raise UserError(
            f"--set=task={config.task}: expected {episodes.task}, as the data say"
        )
    if first:
        _announce(config, default)
    has_card = _CARD.value and algorithm.has_world_model
    make_card = measure.make_card if has_card else None
    name = f"train {config.algo} on {config.task}"
    bar, show, stage = progress_bar(name, is_shown=first)
    with bar:
        result = training_fit.fit(
            config,
            episodes,
            _WORKDIR.value,
            make_card=make_card,
            progress=show,
            sinks=_SINKS.value,
            on_stage=stage,
        )
    if not first:
        return
    _conclude(config, result)


def _train_online(algorithm, task):
    """Trains an algorithm that acts while it learns."""
    if data_flag.value():
        raise UserError(
            f"--data: algo {algorithm.name!r} acts while it learns; expected no data"
        )
    default = algorithm.default_config(task)
    config = settings_flag.apply(default)
    _announce(config, default)
    bar, show, stage = progress_bar(
        f"train {config.algo} on {config.task}", is_shown=True
    )
    with bar:
        result = online_fit.fit(
            config,
            _WORKDIR.value,
            num_workers=_WORKERS.value,
            progress=show,
            sinks=_SINKS.value,
            on_stage=stage,
        )
    _conclude(config, result)


def _announce(config, default):
    """Prints what is not as the algorithm has it."""
    changed = settings_flag.changes(config, default) or "  none"
    print(f"settings that are not {config.algo}'s defaults:\n{changed}")


def _conclude(config, result):
    """Writes config.json, and prints what became of the run."""
    path = as_path(_WORKDIR.value) / "config.json"
    atomic.write_text(path, json.dumps(config_lib.to_dict(config), indent=1))
    for index, steps in sorted(result.run.get("failed", {}).items()):
        print(
            f"warning: training seed {config.train.lanes[int(index)]} failed after "
            f"{steps} steps; the checkpoint holds its last good state"
        )
    if result.card:
        print(describe_card(result.card))
    print(
        f"step {result.step}; checkpoints, metrics.csv and config.json in "
        f"{_WORKDIR.value}"
    )


if __name__ == "__main__":
    cli.run(main, resumes=True)
