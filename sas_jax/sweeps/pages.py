"""What a sweep shows: its plan before, its tables after."""

from pathlib import Path

from sas_jax.files import atomic, machine
from sas_jax.files.results import EpisodeResult, variants_of
from sas_jax.report import aggregate_tables, tables
from sas_jax.report.frontier_figure import frontier_figure, kappa_figure
from sas_jax.report.profile_figure import profile_figure
from sas_jax.report.tables import Table
from sas_jax.sweeps.engines.engine import Resources
from sas_jax.sweeps.engines.local import places_of
from sas_jax.sweeps.estimate import Rates, estimate, steps_of
from sas_jax.sweeps.sweep import Standing, Sweep

UNKNOWN = "not measured"


def clock(seconds: float | None) -> str:
    """Hours, minutes and seconds; `UNKNOWN` for None."""
    if seconds is None:
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def places_at_a_time(resources: Resources) -> int:
    """How many cells run at a time, as far as this machine can tell."""
    return resources.cells or len(places_of(machine.cores(), resources))


def plan_table(sweep: Sweep, rates: Rates, resources: Resources, engine: str) -> Table:
    """A line a cell: what it is, what is there, what is left and how long that takes.

    A recording, and a training, counts for the first cell that needs it.
    """
    lines, total, is_known, steps = [], 0.0, True, 0
    counted: set[str] = set()
    for standing in sweep.standings:
        cell = standing.cell
        rows = sweep.table.rows_of(standing.name) if standing.name else []
        data, model = cell.data.name(cell.task), cell.model_folder
        found = estimate(
            cell,
            rates,
            rows,
            has_data=sweep.has_data(cell) or data in counted,
            has_model=sweep.has_model(standing) or model in counted,
        )
        if standing.state == "waiting":
            counted |= {data, model}
            total += sum(x or 0.0 for x in found.seconds.values())
            is_known &= found.total is not None
            steps += steps_of(cell)
        state = "to do" if standing.state == "waiting" else standing.state
        lines.append(
            (
                str(cell),
                state,
                f"{cell.config.train.num_steps}",
                ",".join(cell.evaluation.variants),
                ",".join(f"{x:g}" for x in cell.evaluation.cost_limits),
                str(cell.evaluation.num_episodes * len(cell.shifts)),
                str(len(cell.keys())),
                str(found.rows),
                clock(found.total) if standing.state == "waiting" else "",
            )
        )
    header = ("cell", "state", "steps", "variants", "thresholds", "layouts", "rows")
    header += ("missing", "time")
    return Table(
        f"Plan: {len(lines)} cells into {sweep.table.path}",
        header,
        tuple(lines),
        _notes(sweep, engine, places_at_a_time(resources), total, is_known, steps)
        + _borrowed(rates),
    )


def _notes(
    sweep: Sweep, engine: str, places: int, total: float, is_known: bool, steps: int
) -> tuple[str, ...]:
    """What a plan comes to; and what stands in its way, a line each."""
    waiting = sum(s.state == "waiting" for s in sweep.standings)
    notes = [
        f"{waiting} cells to do, {steps:,} environment steps at most, {places} at a "
        f"time by engine {engine}"
    ]
    least = "" if is_known else "at least "
    if total:
        notes.append(
            f"about {least}{clock(total / places)} by measured rates "
            f"({clock(total)} of one place)"
        )
    elif waiting:
        notes.append("no rates are measured yet; --rates=TABLE.json takes another's")
    notes += [f"failed: {s.error}" for s in sweep.standings if s.state == "failed"]
    return tuple(notes)


def _borrowed(rates: Rates) -> tuple[str, ...]:
    """Whose rates were taken where nothing alike was measured."""
    if not rates.borrowed:
        return ()
    return (
        f"what was not measured here goes by {rates.machine}; --rates=TABLE.json takes "
        "another table's",
    )


def write(sweep: Sweep, command: str) -> Path:
    """The tables of all rows, as report.md in the sweep's folder."""
    rows = sweep.table.rows
    parts = ["# Sweep", f"    {command}", _state(sweep.standings)]
    shown = [aggregate_tables.aggregate_table(rows), aggregate_tables.tail_table(rows)]
    shown.append(aggregate_tables.power_table(rows))
    shown = [table for table in shown if table.rows]
    parts += _pictures(sweep.folder, rows)
    shown += tables.threshold_tables(rows)
    for _, _, members in tables.groups_of(rows):
        if any(row.variant == "none" for row in members):
            shown += tables.paired_tables(_paired(members), "none")
    parts += [table.markdown() for table in shown]
    return Path(atomic.write_text(sweep.folder / "report.md", "\n\n".join(parts)))


def _pictures(folder: Path, rows: list[EpisodeResult]) -> list[str]:
    """Pictures of all rows, each as PNG and PDF; lines of Markdown that show them."""
    figures = {
        "kappa": (kappa_figure, rows, "Cost against the threshold"),
        "frontier": (frontier_figure, rows, "Return against cost"),
    }
    for limit in sorted({row.cost_limit for row in rows}):
        here = [row for row in rows if row.cost_limit == limit]
        # One run has no profile.
        if len({(row.task, row.train_seed) for row in here}) > 1:
            words = f"Performance profiles, threshold {limit:g}"
            figures[f"profiles_{limit:g}"] = (profile_figure, here, words)
    for name, (draw, chosen, words) in figures.items():
        for ending in ("png", "pdf"):
            draw(folder / f"{name}.{ending}", chosen, title=words)
    return [f"![{words}]({name}.png)" for name, (_, _, words) in figures.items()]


def _paired(rows: list[EpisodeResult]) -> list[EpisodeResult]:
    """Rows whose layout, training seed and threshold all of the variants have."""
    keys = [{r.key for r in rows if r.variant == v} for v in variants_of(rows)]
    shared = set.intersection(*keys)
    return [row for row in rows if row.key in shared]


def _state(standings: list[Standing]) -> str:
    """How many cells there are of each state; those that failed by name."""
    counts = {
        state: sum(s.state == state for s in standings)
        for state in ("done", "failed", "waiting")
    }
    text = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    lines = [f"{len(standings)} cells: {text}."]
    lines += [f"- failed: {s.error}" for s in standings if s.state == "failed"]
    return "\n".join(lines)
