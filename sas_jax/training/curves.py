"""The curves of a training run: metrics.csv, and TensorBoard events by option."""

import csv
from pathlib import Path
from typing import Any

from sas_jax.errors import UserError
from sas_jax.files.atomic import replacing
from sas_jax.files.places import fetched


def _event_writer(folder: Path):
    """TensorBoard's writer for `folder`; UserError when it is not installed."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise UserError(
            "train.tensorboard: tensorboardX is not installed; expected the extra "
            "'tensorboard' (pip install 'sas_jax[tensorboard]')"
        ) from error
    return SummaryWriter(str(folder))


class Curve:
    """metrics.csv: one row per log point and seed, rewritten atomically."""

    def __init__(self, path: Path, step: int, *, tensorboard: bool):
        """Goes on from the rows of `path` up to `step`."""
        self._path, self._rows = path, []
        self._events = (
            _event_writer(path.parent / "tensorboard") if tensorboard else None
        )
        if path.exists():
            with fetched(path) as copy, open(copy, newline="") as file:
                # A killed run may have logged past its last checkpoint.
                self._rows = [r for r in csv.DictReader(file) if int(r["step"]) <= step]

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Appends rows with `step`, `seed` and metrics, and writes the file."""
        self._rows += rows
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        with (
            replacing(self._path) as temporary,
            open(temporary, "w", newline="") as file,
        ):
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self._rows)
        if self._events:
            for row in rows:
                lane = f"seed_{row['seed']}"
                if "cost_limit" in row:
                    lane += f"_limit_{row['cost_limit']:g}"
                for name in row.keys() - {"step", "seed", "cost_limit"}:
                    tag = f"{lane}/{name}"
                    self._events.add_scalar(tag, row[name], row["step"])
            self._events.flush()
