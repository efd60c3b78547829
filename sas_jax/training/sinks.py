"""Where the curves of a training go besides metrics.csv: TensorBoard, W&B.

Each sink is an extra of its own, imported when it is asked for. Sinks are no settings
of a run: another start of it may have others.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from sas_jax.errors import UserError, nearest

_ABOUT = ("step", "seed", "cost_limit")


class Sink(Protocol):
    """Takes rows of metrics.csv as they are made."""

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """rows: `step`, `seed`, maybe `cost_limit`, and metrics."""

    def close(self) -> None:
        """Writes what is left."""


def lane_of(row: Mapping[str, Any]) -> str:
    """What a row's curves are called by: its seed, and its threshold if it has one."""
    limit = f"_limit_{row['cost_limit']:g}" if "cost_limit" in row else ""
    return f"seed_{row['seed']}{limit}"


def _scalars(row: Mapping[str, Any]) -> dict[str, Any]:
    """Name with its lane -> value, of every metric of a row."""
    return {f"{lane_of(row)}/{k}": v for k, v in row.items() if k not in _ABOUT}


class TensorBoard:
    """Event files in WORKDIR/tensorboard."""

    def __init__(self, workdir: Path, config: Mapping[str, Any]):
        """Raises UserError where tensorboardX is not installed."""
        del config
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise UserError(
                "tensorboard: tensorboardX is not installed; expected the extra "
                "'tensorboard' (pip install 'sas_jax[tensorboard]')"
            ) from error
        self._events = SummaryWriter(str(workdir / "tensorboard"))

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """See `Sink`."""
        for row in rows:
            for name, value in _scalars(row).items():
                self._events.add_scalar(name, value, row["step"])
        self._events.flush()

    def close(self) -> None:
        """See `Sink`."""
        self._events.close()


class WandB:
    """A run of Weights & Biases, the same one whenever its workdir goes on.

    Project, entity and mode come from its own environment variables, ``WANDB_PROJECT``
    and so on; the project is "sas_jax" without it.
    """

    def __init__(self, workdir: Path, config: Mapping[str, Any]):
        """Raises UserError where wandb is not installed or cannot start."""
        try:
            import wandb
        except ImportError as error:
            raise UserError(
                "wandb: wandb is not installed; expected the extra 'wandb' "
                "(pip install 'sas_jax[wandb]')"
            ) from error
        import os

        name = str(workdir.absolute())
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "sas_jax"),
                name=workdir.name,
                id=hashlib.sha256(name.encode()).hexdigest()[:16],
                resume="allow",
                dir=str(workdir),
                config=dict(config),
            )
        except Exception as error:  # whatever its client raises
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"wandb: cannot start a run ({reason})") from error

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """See `Sink`."""
        by_step: dict[int, dict[str, Any]] = {}
        for row in rows:
            by_step.setdefault(int(row["step"]), {}).update(_scalars(row))
        for step, values in sorted(by_step.items()):
            self._run.log(values, step=step)

    def close(self) -> None:
        """See `Sink`."""
        self._run.finish()


SINKS = {"tensorboard": TensorBoard, "wandb": WandB}


def open_sinks(
    names: Sequence[str], workdir: Path, config: Mapping[str, Any]
) -> list[Sink]:
    """Sinks by name, each once.

    Raises:
      UserError: an unknown name, or a package that is not installed.
    """
    for name in names:
        if name not in SINKS:
            raise UserError(
                f"sinks: unknown {name!r}{nearest(name, SINKS)} (known: "
                f"{', '.join(SINKS)})"
            )
    return [SINKS[name](workdir, config) for name in dict.fromkeys(names)]
