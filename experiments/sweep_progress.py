"""The line that a sweep shows while it runs."""

import sys
import time

from tqdm import tqdm

from experiments.progress import left
from sas_jax.sweeps import status
from sas_jax.sweeps.engines import Resources
from sas_jax.sweeps.estimate import Rates, built_in, estimate
from sas_jax.sweeps.pages import places_at_a_time
from sas_jax.sweeps.sweep import Standing, Sweep

# Seconds between two looks at the cells' folders; a log wants fewer lines.
_EVERY, _EVERY_IN_A_LOG = 1.0, 60.0
_SHOWN = 2  # running cells that the line has room for


class Bar:
    """Cells done, what the running ones do, and what is left by measured rates."""

    def __init__(self, sweep: Sweep, rates: Rates, resources: Resources):
        """rates: known before; what cells of this run take counts as they end."""
        self._sweep, self._rates = sweep, rates
        self._places, self._last = places_at_a_time(resources), 0.0
        self._every = _EVERY if sys.stderr.isatty() else _EVERY_IN_A_LOG
        done = sum(s.state == "done" for s in sweep.standings)
        self._bar = tqdm(
            desc="sweep",
            total=len(sweep.standings),
            initial=done,
            unit="cell",
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
        )
        for standing in sweep.standings:
            if standing.state == "failed":
                self._say(f"failed: {standing.error}")

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()

    def _say(self, text: str) -> None:
        self._bar.write(text, file=sys.stderr)

    def tell(self, standing: Standing) -> None:
        """A cell has ended."""
        if standing.state == "failed":
            named = standing.error.startswith(f"{standing.cell}: ")
            where = "" if named else f"{standing.cell}: "
            self._say(f"failed: {where}{standing.error}")
        else:
            self._bar.update(1)
            self._rates = Rates(self._sweep.table.records.values(), built_in())

    def tick(self) -> None:
        """Looks how far the cells are."""
        now = time.monotonic()
        if now - self._last < self._every:
            return
        self._last = now
        running, ahead, is_known = [], 0.0, True
        for standing in self._sweep.standings:
            if standing.state != "waiting":
                continue
            folder = self._sweep.path_of(standing)
            found = status.progress_of(folder)
            seconds = self._left(standing, found)
            is_known &= seconds is not None
            ahead += seconds or 0.0
            if found:
                share = found["done"] / max(found["total"], 1)
                running.append(f"{standing.cell} {found['stage']} {share:.0%}")
        more = f" and {len(running) - _SHOWN} more" if len(running) > _SHOWN else ""
        words = ", ".join(running[:_SHOWN]) + more
        if is_known and ahead:
            words += f", {left(ahead / self._places)}"
        self._bar.set_postfix_str(words or "starting")

    def _left(self, standing: Standing, found: dict) -> float | None:
        """Seconds of a cell that are left; None where nothing like it was measured."""
        sweep, cell = self._sweep, standing.cell
        stages = estimate(
            cell,
            self._rates,
            sweep.table.rows_of(standing.name),
            has_data=sweep.has_data(cell),
            has_model=sweep.has_model(standing) or found.get("stage") == "evaluate",
        ).seconds
        share = found["done"] / max(found["total"], 1) if found else 0.0
        total = 0.0
        for stage, seconds in stages.items():
            if seconds is None:
                return None
            total += seconds * (1 - share if stage == found.get("stage") else 1)
        return total
