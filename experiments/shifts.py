"""A checkpoint in changed worlds: by levels, and in the worst one that is found.

python -m experiments.shifts --checkpoint=runs/demo/model --variants=none,plan \
    --axis=actuator:0.8/0.6 --axis=obs_noise:0.1/0.3 --axis=attack:0.05/0.1
python -m experiments.shifts --checkpoint=runs/demo/model --variants=none,plan \
    --worst=actuator:0.6/1.4,mass:0.7/1.5,delay:0/3 --tries=16

Levels are those of --shift (sas_jax/envs/shift.py). The same layouts are played in each
world, the unchanged one among them. --worst looks for the world of a box that costs the
first variant most, on layouts of its own (--search_seed), and then plays all variants
there on the others. Rows go to --out as those of `evaluate` do, those of the search to
a file beside it; the same command resumes.
"""

import shlex
import sys

from absl import flags

from experiments import cli, settings_flag
from experiments.progress import evaluation_bar
from sas_jax.errors import UserError

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_VARIANTS = flags.DEFINE_list("variants", None, "Default: the algorithm's.")
_LIMIT = flags.DEFINE_float("cost_limit", None, "Threshold (default: the task's).")
_EPISODES = flags.DEFINE_integer("episodes", 64, "Layouts per variant and world.")
_FIRST_SEED = cli.define_seed("first_seed", 1_000_000, "Seed of the first layout.")
_AXES = flags.DEFINE_multi_string(
    "axis", [], "What changes, and its levels, e.g. actuator:0.9/0.8; may be repeated."
)
_WORST = flags.DEFINE_string("worst", "", "A box, e.g. actuator:0.6/1.4,delay:0/3.")
_TRIES = flags.DEFINE_integer("tries", 16, "Worlds of the box.", lower_bound=2)
_SEARCH_SEED = cli.define_seed("search_seed", 3_000_000, "First layout of those.")
_SEARCH_EPISODES = flags.DEFINE_integer("search_episodes", 32, "Layouts of a try.")
_CRITIC = cli.define_path("critic", None, "As for experiments.evaluate.")
_ASKING = cli.define_path("asking", None, "As for experiments.evaluate.")
_WORKERS = flags.DEFINE_integer("workers", None, "Environment processes (all cores).")
_OUT = cli.define_path("out", None, "CSV (default: CHECKPOINT/shifts.csv).")

cli.answer_help(__name__, __doc__)

import dataclasses
import os

from sas_jax import checkpoint, learners, risks
from sas_jax.envs.tasks import get_task
from sas_jax.evaluation.config import EvaluationConfig
from sas_jax.evaluation.evaluate import evaluate
from sas_jax.evaluation.settings import settings_of
from sas_jax.evaluation.work import work_of
from sas_jax.files.results_file import ResultsFile
from sas_jax.report.shift_figure import shift_figure
from sas_jax.report.shift_tables import shift_table
from sas_jax.report.tables import Table
from sas_jax.studies import gap


def main(argv):
    """Plays the worlds, writes rows and the picture, prints the tables."""
    del argv
    if not _CHECKPOINT.value:
        raise UserError("--checkpoint: expected a workdir of experiments.train")
    axes = [gap.parse_axis(text) for text in _AXES.value]
    box = gap.parse_box(_WORST.value) if _WORST.value else None
    if not axes and box is None:
        raise UserError("--axis, --worst: expected at least one of them")
    loaded = checkpoint.load(_CHECKPOINT.value)
    loaded = loaded._replace(config=settings_flag.apply(loaded.config, only="sas."))
    task = get_task(loaded.config.task)
    algorithm = learners.get(loaded.config.algo)
    limit = task.cost_limits[0] if _LIMIT.value is None else _LIMIT.value
    config = EvaluationConfig(
        variants=tuple(_VARIANTS.value or algorithm.default_variants),
        cost_limits=(limit,),
        num_episodes=_EPISODES.value,
        first_seed=_FIRST_SEED.value,
        num_workers=_WORKERS.value,
    )
    algorithm.check_variants(config.variants)
    cli.check_apart(_FIRST_SEED, _EPISODES.value, _SEARCH_SEED, _SEARCH_EPISODES.value)
    path = _OUT.value or os.path.join(_CHECKPOINT.value, "shifts.csv")
    out = _file(path, loaded, config)

    def play(world):
        return _play(loaded, dataclasses.replace(config, shift=world), out)

    worlds = {world: play(world) for world in gap.worlds_of(axes)}
    here = _by_axis(axes, worlds)
    title = f"{task.name}, {loaded.config.algo}"
    for name, levels in here.items():
        print(shift_table(name, levels, worlds[""], title=title).text())
    if here:
        print("wrote", shift_figure(out.path.with_suffix(".png"), here, title=title))
    if box is not None:
        worst = _search(box, loaded, config, out.path)
        print(_worst(worst, play(worst), worlds[""]).text())
    print(f"{len(out.rows)} rows in {out.path}")


def _file(path, loaded, config) -> ResultsFile:
    """Rows of worlds, of this checkpoint and these settings."""
    command = shlex.join(["python", "-m", "experiments.shifts", *sys.argv[1:]])
    files = {"critic_file": _CRITIC.value, "asking_file": _ASKING.value}
    settings = settings_of(loaded, config, **files)
    return ResultsFile(path, settings, command, optional=("critic", "asking"))


def _play(loaded, config, out):
    """The rows of one world, run where the file does not have them."""
    work = work_of(loaded.config, config, out.rows)
    given = risks.companions(loaded.spec, critic=_CRITIC.value, asking=_ASKING.value)
    total = sum(part.num_groups * len(seeds) for part, seeds in work)
    if total:
        steps = total * get_task(loaded.config.task).episode_steps
        bar, on_step, on_stage = evaluation_bar(config.shift or "unchanged", steps)
        with bar:
            run = evaluate(
                loaded,
                config,
                done=out.rows,
                on_step=on_step,
                on_stage=on_stage,
                on_rows=out.write,
                **given,
            )
        return run.results
    return evaluate(loaded, config, done=out.rows, **given).results


def _by_axis(axes, worlds):
    """Name of an axis -> level -> rows, the unchanged world among its levels."""
    found = {}
    for axis in axes:
        levels = found.setdefault(axis.name, {})
        for world, rows in worlds.items():
            level = gap.level_of(world, axis.name)
            if level is not None:
                levels[level] = rows
    return found


def _search(box, loaded, config, path) -> str:
    """The worst world for the first variant, on layouts of the search's own."""
    variant = config.variants[0]
    config = dataclasses.replace(
        config,
        variants=(variant,),
        first_seed=_SEARCH_SEED.value,
        num_episodes=_SEARCH_EPISODES.value,
    )
    out = _file(path.with_name(f"{path.stem}_search.csv"), loaded, config)

    def badness(world):
        rows = _play(loaded, dataclasses.replace(config, shift=world), out)
        return sum(row.cost for row in rows) / len(rows)

    tried = gap.worst_world(badness, box, tries=_TRIES.value)
    worst, plain = tried[0], next(t for t in tried if not t.shift)
    print(
        f"{variant}: the worst of {len(tried)} worlds is "
        f"{worst.shift or 'the unchanged one'}, cost {worst.badness:.1f} where it was "
        f"looked for ({plain.badness:.1f} in the unchanged world)"
    )
    return worst.shift


def _worst(world, rows, plain) -> Table:
    """All variants in the worst world, beside the unchanged one."""
    table = shift_table("", {0.0: plain, 1.0: rows}, plain, title="The worst world")
    names = {"0": "unchanged", "1": world or "unchanged"}
    lines = tuple((v, names[level], *rest) for v, level, *rest in table.rows)
    title = f"The worst world, {names['1']}"
    return dataclasses.replace(table, title=title, rows=lines)


if __name__ == "__main__":
    cli.run(main, resumes=True)
