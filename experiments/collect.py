"""Records episodes of scripted behaviours, or of a policy, into a DSRL file.

python -m experiments.collect --task=PointGoal1 --episodes=300 --out=data/pg1.hdf5
python -m experiments.collect --task=gymnasium:my_envs:Mine-v0 --policy=random
python -m experiments.collect --task=jax:my_envs:make --policy=random --on_device=256
python -m experiments.collect --task=PointGoal1 --policy=runs/pg1_alam
"""

import re
import sys
import time

from absl import flags
from tqdm import tqdm

from experiments import cli

_TASK = flags.DEFINE_string(
    "task", "PointGoal1", "Task to record: Point or Car, or any with --policy."
)
_EPISODES = flags.DEFINE_integer("episodes", 300, "Number of episodes.")
_SEED = cli.define_seed("seed", 0, "Seed of layouts, behaviours and noise.")
_MIXTURE = flags.DEFINE_string(
    "mixture", "varied", "Behaviours: varied, graded, budgeted or two_worlds."
)
_SHIFT = flags.DEFINE_string(
    "shift", "", "A changed world, e.g. actuator:0.6,mass:1.3 (see envs/shift.py)."
)
_POLICY = flags.DEFINE_string(
    "policy",
    "",
    "Who acts instead of the scripts: random, module:function, or a checkpoint.",
)
_ON_DEVICE = flags.DEFINE_integer(
    "on_device",
    None,
    "Tasks in JAX: whole episodes in one program, so many side by side.",
    lower_bound=1,
)
_OUT = cli.define_path(
    "out", None, "File to write (default: data/TASK.hdf5).", is_local=True
)
_WORKERS = flags.DEFINE_integer("workers", None, "Processes (default: all cores).")

cli.answer_help(__name__, __doc__)

from sas_jax.data import collect
from sas_jax.data.behaviours import given
from sas_jax.envs.tasks import get_task
from sas_jax.errors import UserError
from sas_jax.files.places import as_path


def _in_workers(plan: collect.Plan, out: str):
    """Episodes by processes of this machine, with a bar."""
    with tqdm(total=plan.episodes, desc=f"collect {plan.task}", unit="ep") as bar:

        def show(done: int, total: int) -> None:
            del total
            if bar.n == 0 and done:  # resumed: these cost no time now
                bar.initial = done
            bar.update(done - bar.n)

        return collect.collect(plan, out, workers=_WORKERS.value, progress=show)


def _on_device(plan: collect.Plan, out: str):
    """Episodes on the device, all of them in a few calls."""
    from sas_jax.jax_envs import recording

    if _WORKERS.value is not None:
        raise UserError("--workers: expected none beside --on_device")

    def say(words: str) -> None:
        print(f"{words}, then {plan.episodes} episodes", file=sys.stderr)

    return recording.record(plan, out, at_once=_ON_DEVICE.value, on_stage=say)


def main(argv):
    """Collects, shows progress and prints what was recorded."""
    del argv
    policy = _POLICY.value
    if policy not in ("", given.RANDOM) and (path := as_path(policy)).exists():
        if _ON_DEVICE.value is not None:
            raise UserError(
                f"--policy={policy}: a checkpoint records in processes; expected no "
                "--on_device"
            )
        from sas_jax import trained

        policy = trained.name_of(path, get_task(_TASK.value).name)
    plan = collect.Plan(
        _TASK.value,
        _EPISODES.value,
        _SEED.value,
        _MIXTURE.value,
        _SHIFT.value,
        policy,
    )
    out = _OUT.value or f"data/{re.sub('[^A-Za-z0-9._-]+', '_', plan.task)}.hdf5"
    start = time.perf_counter()
    is_there = _ON_DEVICE.value is not None
    episodes = (_on_device if is_there else _in_workers)(plan, out)
    seconds = time.perf_counter() - start
    print(collect.summary(episodes))
    print(f"{seconds:.1f} s; written to {out}")


if __name__ == "__main__":
    cli.run(main, resumes=True)
