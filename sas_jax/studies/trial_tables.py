"""The tables of `candidate_trials`: how right imagined outcomes are."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sas_jax.alignment.config import SASConfig
from sas_jax.report.tables import NO_VALUE, Table
from sas_jax.studies import candidate_trials as trials

_NAMES = (*trials.SUMS, *trials.SPEEDS)
_KINDS = {1: "a plan was executed", 0: "the policy acted"}


class Tried(NamedTuple):
    """The plans of a table of trials.

    is_executed: `[P]` bool. is_reference: `[N]` bool. allowed: `[P]` cost. sums: column
    -> `[P, N]`, of the names that begin as `trials.SUMS` and `trials.SPEEDS` do.
    """

    is_executed: np.ndarray
    is_reference: np.ndarray
    allowed: np.ndarray
    sums: dict[str, np.ndarray]


def tried_of(rows: Sequence[Mapping[str, str]]) -> Tried:
    """Rows as `trials.trials` makes them, in their order, as arrays."""
    count = 1 + max(int(row["candidate"]) for row in rows)

    def column(name):
        return np.array([float(row[name]) for row in rows]).reshape(-1, count)

    names = [name for name in rows[0] if name.startswith(_NAMES)]
    return Tried(
        column("is_executed")[:, 0] > 0,
        column("is_reference")[0] > 0,
        column("allowed")[:, 0],
        {name: column(name) for name in names},
    )


def tables(rows: Sequence[Mapping[str, str]], config: SASConfig) -> list[Table]:
    """How right sums are, and what would have been chosen if they were.

    config: that the plans were made with.
    """
    if not rows:
        return []
    tried, steps = tried_of(rows), trials.horizons(config.plan)
    first = rows[0]
    name = f"{first['task']}, {first['variant']}, threshold {first['cost_limit']}"
    layouts = len({row["episode_seed"] for row in rows})
    note = f"{len(tried.allowed)} plans of {layouts} layouts were tried out."
    return [
        Table(
            f"{name}: imagined and real sums of candidates, and their speeds",
            ("steps", "mean imagined", "real", "correlation", "within plans"),
            tuple(_agreements(tried, steps)),
            (
                note,
                "within plans: of what is left without each plan's mean.",
                "speed: mean metres a second between these steps.",
            ),
        ),
        Table(
            f"{name}: what the choice brings over {steps[-1]} steps",
            ("the rule is told", "return", "cost", f"cost over {steps[0]}"),
            tuple(_choices(tried, steps, first["variant"], config)),
            ("The policy's own: the mean of its references.",),
        ),
    ]


def _agreements(tried: Tried, steps: Sequence[int]):
    for is_executed, kind in _KINDS.items():
        here = tried.is_executed == is_executed
        if not here.any():
            continue
        for what in ("cost", "reward", "speed"):
            if f"real_{what}_{steps[0]}" not in tried.sums:
                continue
            for count in steps:
                found = trials.agreement(
                    tried.sums[f"imagined_{what}_{count}"][here],
                    tried.sums[f"real_{what}_{count}"][here],
                )
                yield (
                    f"{kind} ({here.sum()}): {what}, {count}",
                    *(_number(value) for value in found),
                )


def _choices(tried: Tried, steps: Sequence[int], variant: str, config: SASConfig):
    last, first = steps[-1], steps[0]
    for is_executed, kind in _KINDS.items():
        here = np.flatnonzero(tried.is_executed == is_executed)
        if not here.size:
            continue
        sums = {name: values[here] for name, values in tried.sums.items()}
        real = [
            sums[f"real_reward_{last}"],
            sums[f"real_cost_{last}"],
            sums[f"real_cost_{first}"],
        ]
        own = (_number(x[:, tried.is_reference].mean()) for x in real)
        yield (f"{kind}: the policy's own", *own)
        for told, (reward, cost) in trials.TOLD.items():
            index = trials.rechosen(
                variant,
                config,
                sums[f"{reward}_reward_{last}"],
                sums[f"{cost}_cost_{last}"],
                tried.allowed[here],
            )
            taken = (_number(x[np.arange(here.size), index].mean()) for x in real)
            yield (f"{kind}: {told}", *taken)


def _number(value: float) -> str:
    return NO_VALUE if math.isnan(value) else f"{value:.2f}"
