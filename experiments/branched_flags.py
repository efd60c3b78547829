"""What the commands ask for that play layouts beside copies of the world."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from experiments import cli, settings_flag
from sas_jax.errors import UserError

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_VARIANT = flags.DEFINE_string("variant", "plan", "A variant that plans.")
_FIRST = cli.define_seed("first_seed", 1_000_000, "Seed of the first layout.")
_LIMIT = flags.DEFINE_float("cost_limit", None, "Threshold (default: the strictest).")
_SEED = cli.define_seed("seed", 0, "Of the agent's draws.")
_TRAIN_SEED = flags.DEFINE_integer("train_seed", 0, "Index of the training seed.")


class Asked(NamedTuple):
    """What the flags name.

    loaded: the checkpoint, with the settings of --set. task: its name. variant: that
    plans. seeds: the layouts. out: the table. how: arguments of what plays them, which
    are `cost_limit`, `seed` and `train_seed`.
    """

    loaded: Any
    task: str
    variant: str
    seeds: range
    out: Path
    how: dict[str, Any]

    def run_of(self, *decided: Any) -> str:
        """What tells these rows from others; decided: plain values besides."""
        from sas_jax.studies import branched_play

        return branched_play.run_of(self.loaded, *self.how.values(), *decided)

    def table(self, read: Callable[[Path], list], run_of: Callable, run: str) -> list:
        """The rows that `out` has; none where there is no such file.

        Args:
          read: of a file. run_of: what a row says of its run. run: what it must say.

        Raises:
          UserError: rows of another run.
        """
        rows = read(self.out) if self.out.exists() else []
        if any(run_of(row) != run for row in rows):
            raise UserError(
                f"{self.out}: has rows of other flags, settings or another checkpoint; "
                "expected another --out"
            )
        return rows


def asked(episodes: int, out: str | None, default_out: str) -> Asked:
    """Reads the flags.

    Args:
      episodes: layouts. out: the table, or None for one in the checkpoint's folder.

    Raises:
      UserError: no checkpoint, no episode, a variant that does not plan, or a table
        that cannot be written.
    """
    if not _CHECKPOINT.value:
        raise UserError("--checkpoint: expected a workdir of experiments.train")
    if episodes < 1:
        raise UserError("--episodes: expected at least 1")
    from sas_jax import checkpoint
    from sas_jax.alignment.variants import check_variants, planning_of
    from sas_jax.envs.tasks import get_task
    from sas_jax.files import atomic

    if planning_of(check_variants((_VARIANT.value,))) is None:
        raise UserError(
            f"--variant: {_VARIANT.value!r} does not plan; expected one such as plan"
        )
    loaded = checkpoint.load(_CHECKPOINT.value)
    loaded = loaded._replace(config=settings_flag.apply(loaded.config, only="sas."))
    task = get_task(loaded.config.task)
    limit = min(task.cost_limits) if _LIMIT.value is None else _LIMIT.value
    path = Path(out or f"{_CHECKPOINT.value}/{default_out}")
    atomic.probe(path)
    how = {"cost_limit": limit, "seed": _SEED.value, "train_seed": _TRAIN_SEED.value}
    seeds = range(_FIRST.value, _FIRST.value + episodes)
    return Asked(loaded, task.name, _VARIANT.value, seeds, path, how)
