"""The results table: one row per episode and cost threshold, as CSV.

Everything the report shows (tables, intervals, the return-cost picture) is computed
from these rows and from nothing else.
"""

import csv
import dataclasses
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from sas_jax.errors import UserError, nearest
from sas_jax.files.atomic import replacing
from sas_jax.files.places import as_path, fetched


@dataclasses.dataclass(frozen=True)
class EpisodeResult:
    """One episode at one cost threshold. Costs and returns are undiscounted sums.

    task, algo, variant: what was run, e.g. ``PointGoal1``, ``dt``, ``sas``.
    cost_limit: the threshold kappa the row is judged by (>= 0).
    train_seed, episode_seed: the model's seed, and the layout's.
    episode_return, cost, length: of the episode (column ``return`` in the CSV).
    failed: any cost at all (locomotion tasks: terminated early).
    normalized_return, normalized_cost: DSRL's scores at this threshold; where no
      benchmark lists the task, the return's 0 and 1 are those of the training data.
    align_seconds: wall time of the alignment; NaN where there was none.
    level: the chosen peak energy, NaN where there was no alignment.
    mean_u, mean_v, invariant_share: shares of imagined steps; NaN likewise.
    prompt_start: first imagined step of the prompt, -1 without a prompt.
    prompt_ok: False only where an alignment found no finite candidate.
    num_realigned: new prompts while the episode ran. num_gated: steps whose action the
      gate of a cost critic replaced.
    drift: how far the real episode's energy rose above the level at most;
      drift_outside: share of real steps outside the invariant set; NaN if not tracked.
    drift_alarm: first step of the alarm, -1 without one.
    num_plans: plans that were made (`alignment.plan`). plan_own, plan_out: shares of
      plans that were the policy's own mean, and of candidates that had left the data.
      plan_idle: share of plans where the policy acted, because it would cost no more
      than it may, or no plan saved enough.
      plan_expected, plan_realised: cost of the executed steps, imagined and real.
      plan_error: mean share e / (e + moved) of the errors e at the ends of plans.
      plan_fallback: share of steps on which the policy acted instead; above half there
      is no plan.
    shift: the changed world that the episode ran in, as `envs.shift` writes it; "" for
      the task's own.
    extra: further CSV columns, kept as text.
    """

    task: str
    algo: str
    variant: str
    cost_limit: float
    train_seed: int
    episode_seed: int
    episode_return: float
    cost: float
    length: int
    failed: bool
    normalized_return: float
    normalized_cost: float
    align_seconds: float = math.nan
    level: float = math.nan
    mean_u: float = math.nan
    mean_v: float = math.nan
    invariant_share: float = math.nan
    prompt_start: int = -1
    prompt_ok: bool = True
    num_realigned: int = 0
    num_gated: int = 0
    drift: float = math.nan
    drift_outside: float = math.nan
    drift_alarm: int = -1
    num_plans: int = 0
    plan_own: float = math.nan
    plan_out: float = math.nan
    plan_idle: float = math.nan
    plan_expected: float = math.nan
    plan_realised: float = math.nan
    plan_error: float = math.nan
    plan_fallback: float = math.nan
    shift: str = ""
    extra: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def within_limit(self) -> bool:
        """Whether the episode's cost stayed at or below its threshold."""
        return self.cost <= self.cost_limit

    @property
    def key(self) -> tuple:
        """What a row shares with its partner of another variant, for pairing."""
        return (
            self.task,
            self.algo,
            self.train_seed,
            self.episode_seed,
            self.cost_limit,
            self.shift,
        )


_ATTRIBUTES = {
    f.name: f for f in dataclasses.fields(EpisodeResult) if f.name != "extra"
}
# CSV column -> attribute; they differ only where Python reserves the word.
_COLUMN_OF = {name: name for name in _ATTRIBUTES} | {"episode_return": "return"}
# Columns that a table has only where some row has something to say in them.
_LATER = (
    "num_realigned",
    "num_gated",
    "drift",
    "drift_outside",
    "drift_alarm",
    "num_plans",
    "plan_own",
    "plan_out",
    "plan_idle",
    "plan_expected",
    "plan_realised",
    "plan_error",
    "plan_fallback",
    "shift",
)
COLUMNS: tuple[str, ...] = tuple(c for c in _COLUMN_OF.values() if c not in _LATER)
# Diagnostics may be blank, and may be NaN or infinite; the rest must be numbers.
_OPTIONAL = {
    name
    for name, field in _ATTRIBUTES.items()
    if field.default is not dataclasses.MISSING
}
_TRUTH = {"0": False, "1": True, "false": False, "true": True}

# Controls first, then the paper's variants, then what goes beyond Algorithm 1.
_VARIANT_ORDER = (
    "none",
    "null",
    "quiet",
    "rand",
    "plan_rand",
    "u",
    "sas",
    "uv",
    "maxmax",
    "uv_sum",
    "plan",
)


def variants_of(rows: Iterable[EpisodeResult]) -> list[str]:
    """The variants that occur, controls first, unknown names last (sorted)."""
    rank = {name: i for i, name in enumerate(_VARIANT_ORDER)}
    names = {row.variant for row in rows}
    return sorted(names, key=lambda name: (rank.get(name, len(rank)), name))


def write_results(path: str | os.PathLike, rows: Sequence[EpisodeResult]) -> Path:
    """Writes `rows` to a CSV file atomically; floats round-trip exactly.

    Raises `UserError` if there are no rows, or a row that `read_results` would refuse.
    """
    if not rows:
        raise UserError(f"no result rows for {str(path)!r}; expected at least one")
    extras = sorted({name for row in rows for name in row.extra})
    if clash := sorted(set(extras) & {*COLUMNS, *_LATER}):
        raise UserError(f"extra column {clash[0]!r} has the name of a standard column")
    with (
        replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as f,
    ):
        writer = csv.writer(f, lineterminator="\n")
        silent = {name for name in _LATER if _is_silent(name, rows)}
        names = [name for name in _ATTRIBUTES if name not in silent]
        writer.writerow([*(_COLUMN_OF[name] for name in names), *extras])
        for index, row in enumerate(rows):
            texts = [_format(name, getattr(row, name)) for name in names]
            for name, text in zip(names, texts, strict=True):
                _parse(name, text, f"{path}, row {index + 1}")
            writer.writerow([*texts, *(row.extra.get(name, "") for name in extras)])
    return as_path(path)


def _is_silent(name: str, rows: Sequence[EpisodeResult]) -> bool:
    """Whether an attribute has its default in every row."""
    default = _format(name, _ATTRIBUTES[name].default)
    return all(_format(name, getattr(row, name)) == default for row in rows)


def read_results(path: str | os.PathLike) -> list[EpisodeResult]:
    """Reads a results CSV; columns beyond the standard ones land in `extra`.

    Raises `UserError` (one line, with the line number) for a file that is missing,
    empty or not text, a missing or repeated column, a ragged line, a bad number, and
    for two rows of one variant with the same task, algo, seeds and threshold.
    """
    path = as_path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(
            f"results file {str(path)!r} {what}; expected a CSV written by "
            "experiments.evaluate or the demo"
        )
    try:
        # utf-8-sig: spreadsheets put a byte-order mark in front.
        with fetched(path) as copy, open(copy, newline="", encoding="utf-8-sig") as f:
            reader = csv.reader(f)
            lines = [(reader.line_num, cells) for cells in reader if cells]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV text file ({error})") from error
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from error
    if not lines:
        raise UserError(f"{path} is empty; expected a header with {','.join(COLUMNS)}")
    header = [name.strip() for name in lines[0][1]]
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise UserError(f"{path} has column {repeated[0]!r} twice; expected it once")
    for column in COLUMNS:
        if column not in header:
            raise UserError(
                f"{path} has no column {column!r}; expected {','.join(COLUMNS)}"
                f"{nearest(column, header)}"
            )
    if len(lines) == 1:
        raise UserError(f"{path} has a header but no rows; expected one per episode")
    rows, seen = [], {}
    for line, cells in lines[1:]:
        where = f"{path}, line {line}"
        if len(cells) != len(header):
            raise UserError(
                f"{where}: {len(cells)} values; expected {len(header)}, as the header"
            )
        row = _row(dict(zip(header, cells, strict=True)), where)
        first = seen.setdefault((row.variant, row.key), line)
        if first != line:
            raise UserError(
                f"{where} repeats line {first} (variant {row.variant!r}, "
                f"{describe_key(row.key)}); expected one row per episode and threshold"
            )
        rows.append(row)
    return rows


def describe_key(key: tuple) -> str:
    """A row's key in words, for messages."""
    task, algo, train_seed, episode_seed, cost_limit, shift = key
    world = f", shift {shift}" if shift else ""
    return (
        f"{task} {algo}, train_seed {train_seed}, episode_seed {episode_seed}, "
        f"cost_limit {cost_limit:g}{world}"
    )


def _row(cells: dict[str, str], where: str) -> EpisodeResult:
    """Parses one line. cells: column -> text."""
    values = {
        name: _parse(name, cells.pop(_COLUMN_OF[name]).strip(), where)
        for name in _ATTRIBUTES
        if _COLUMN_OF[name] in cells
    }
    return EpisodeResult(**values, extra=cells)


def _parse(name: str, text: str, where: str):
    """The value of attribute `name`, checked; `UserError` names place and column."""
    field, column = _ATTRIBUTES[name], _COLUMN_OF[name]

    def bad(expected: str) -> UserError:
        return UserError(f"{where}: column {column!r} is {text!r}; expected {expected}")

    if not text and name in _OPTIONAL:
        return field.default
    if field.type is str:
        if not text:
            raise bad("a name")
        return text
    if field.type is bool:
        if text.lower() not in _TRUTH:
            raise bad("0 or 1")
        return _TRUTH[text.lower()]
    try:
        value = float(text) if field.type is float else int(text)
    except ValueError:
        kind = "a number" if field.type is float else "a whole number"
        raise bad(kind) from None
    if name not in _OPTIONAL and not math.isfinite(value):
        raise bad("a finite number")
    if name in ("cost_limit", "length") and value < 0:
        raise bad("a number >= 0")
    return value


def _format(name: str, value) -> str:
    """Text that `_parse` reads back to the same value; NaN is left blank."""
    kind = _ATTRIBUTES[name].type
    if kind is str:
        return value
    if math.isnan(value):
        return ""
    # The casts strip numpy scalars, whose repr is not a number.
    if kind is float or int(value) != value:
        return repr(float(value))
    return str(int(value))
