"""Plays one layout under some variants and draws it: a map and a moving picture.

python -m experiments.watch
python -m experiments.watch --checkpoint=runs/demo/model --layout=7 --variants=none,plan

Without --checkpoint a small policy of PointGoal1 plays that comes with the package.
"""

from pathlib import Path

from absl import flags

from experiments import cli
from sas_jax.errors import UserError

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir, or a file of pack.")
_STEP = flags.DEFINE_integer("step", None, "Training step (default: the last).")
_VARIANTS = flags.DEFINE_list("variants", ["none", "plan_weighted"], "Who plays.")
_LAYOUT = cli.define_seed("layout", 1_000_000, "Seed of the layout.")
_LIMIT = flags.DEFINE_float("cost_limit", None, "Threshold (default: the strictest).")
_SEED = cli.define_seed("seed", 0, "Seed of the agents' draws.")
_TRAIN_SEED = flags.DEFINE_integer("train_seed", 0, "Index of the training seed.")
_OUT = cli.define_path("out", "runs/watch", "Folder of the pictures.", is_local=True)

cli.answer_help(__name__, __doc__)


def main(argv):
    """Plays, prints return and cost of each, and draws them where there is a map."""
    del argv
    if not _VARIANTS.value:
        raise UserError("--variants: expected at least one, such as none,plan_weighted")
    from sas_jax import checkpoint, packed
    from sas_jax.envs.tasks import get_task
    from sas_jax.evaluation import watching
    from sas_jax.report import clip, figures, imagined_paths

    loaded = checkpoint.load(_CHECKPOINT.value or packed.SHIPPED, _STEP.value)
    task = get_task(loaded.config.task)
    limit = min(task.cost_limits) if _LIMIT.value is None else _LIMIT.value
    shown, layout = {}, {}
    for variant in _VARIANTS.value:
        print(f"{variant}: compiling, then {task.episode_steps} steps", flush=True)
        watched = watching.watch(
            loaded,
            variant,
            _LAYOUT.value,
            cost_limit=limit,
            seed=_SEED.value,
            train_seed=_TRAIN_SEED.value,
        )
        layout = watched.layout
        print(
            f"{variant}: return {watched.reward.sum():.1f}, cost "
            f"{watched.cost.sum():.0f} in {len(watched.cost)} steps"
        )
        shown[variant] = imagined_paths.episode_path(watched, task)
    if not layout:
        print(f"{task.name} has no map to draw")
        return
    folder = Path(_OUT.value)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{task.name}_{_LAYOUT.value}"
    title = f"{task.name}, layout {_LAYOUT.value}"
    for path in (
        figures.map_figure(
            folder / f"{name}.png", layout=layout, paths=shown, title=title
        ),
        clip.write_clip(
            folder / f"{name}.gif", layout=layout, paths=shown, title=task.name
        ),
    ):
        print(path)


if __name__ == "__main__":
    cli.run(main)
