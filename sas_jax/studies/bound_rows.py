"""The study of Prop. 4.2 on a checkpoint: pools, constants, rows."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sas_jax.data.episodes import Episodes
from sas_jax.files.parts import in_parts
from sas_jax.progress import SILENT, Progress
from sas_jax.report.bound_report import BoundRow
from sas_jax.stats.resample import mean_of
from sas_jax.studies import bound
from sas_jax.studies.probe import Probe, data_energies, first_observations


class Study(NamedTuple):
    """rows, and what they were made with; notes: name of a constant -> its meaning."""

    rows: list[BoundRow]
    constants: bound.Constants
    notes: dict[str, str]


def study(
    probe: Probe,
    episodes: Episodes,
    seeds: np.ndarray,
    *,
    num_firsts: tuple[int, ...] = (1, 3, 5, 10, 30),
    num_seconds: tuple[int, ...] = (1, 3, 5, 10, 30),
    kappa: float = 1.0,
    num_episodes: int = 64,
    folder: str | Path,
    num_workers: int | None = None,
    progress: Progress = SILENT,
) -> Study:
    """Measures all N and M on the layouts `seeds` and states the bound beside them.

    Args:
      probe: the checkpoint. episodes: its data, for D. num_episodes: how many of them.
      kappa: the proposition's undefined constant.
      folder: keeps finished parts. progress: told of every step.
    """
    num_firsts, num_seconds = sorted(set(num_firsts)), sorted(set(num_seconds))
    longest = int(episodes.lengths.max())
    replayed = min(num_episodes, episodes.num_episodes) * longest
    layout = probe.horizon * (num_firsts[-1] + len(num_firsts) * num_seconds[-1])
    progress.expect(replayed + layout * len(seeds))
    progress.stage("energies of the data")
    energies = data_energies(
        probe,
        episodes,
        num_episodes=num_episodes,
        on_done=lambda count: progress.done(count * longest),
    )
    measure_pools = bound.make_pools(
        probe, tuple(num_firsts), num_seconds[-1], progress=progress
    )

    def measure(filled, count):
        progress.stage(f"layouts {filled[0]} to {filled[count - 1]}")
        obs = first_observations(probe.task, filled[:count], num_workers=num_workers)
        rows = np.minimum(np.arange(len(filled)), count - 1)
        return measure_pools(filled, obs[rows])

    def on_done(count, is_new):
        if not is_new:
            progress.skip(count * layout)

    settings = probe.settings() | {
        "N": num_firsts,
        "M": num_seconds[-1],
        "what": "bound",
    }
    pools = in_parts(folder, settings, seeds, bound.LAYOUTS, measure, on_done=on_done)
    constants = bound.constants_of(pools, energies, horizon=probe.horizon, kappa=kappa)
    rows = []
    for name, upper in constants.uppers.items():
        limits = np.array([constants.c1, upper]) + constants.shift
        holds = bound.leaving(pools, *limits)
        for index, num_first in enumerate(num_firsts):
            for num_second in num_seconds:
                shares = {
                    k: bound.chosen_shares(pools, x, num_second)[:, index]
                    for k, x in holds.items()
                }
                markov, hoeffding = bound.terms(constants, upper, num_first, num_second)
                row = BoundRow(
                    upper=name,
                    num_first=num_first,
                    num_second=num_second,
                    leaves=mean_of(shares["leaves"]),
                    above=float(shares["above"].mean()),
                    below=float(shares["below"].mean()),
                    markov=markov,
                    hoeffding=hoeffding,
                )
                rows.append(row)
    return Study(rows, constants, _notes(constants, energies, len(seeds), probe))


def _notes(constants, energies, layouts, probe) -> dict[str, str]:
    """Every constant in words."""
    known = dataclasses.asdict(probe.config)
    notes = {
        "energies": f"density {known['density']}, window {known['energy_window']}; "
        f"shifted by {-constants.shift:.4g} nats, so that the least of the data is 0",
        "E_D[E]": f"{constants.mean_energy:.4g} nats over {np.isfinite(energies).sum()}"
        f" steps of {len(energies)} recorded episodes",
        "c1": f"{constants.c1:.4g}, the least energy of the data",
        "L": f"{constants.lipschitz:.4g} nats, the largest |E_t - E_t+1| seen in data "
        "and imaginations",
        "kappa": f"{constants.kappa:g}; the paper leaves it undefined",
        "T": f"{constants.horizon} imagined steps",
        "layouts": f"{layouts}; intervals are 95 % bootstrap over layouts",
        "measured": "first N of the pool as Algorithm 1; mean over all sets of M of "
        "the second pool; disqualified ones count as leaving",
    }
    for name, upper in constants.uppers.items():
        notes[f"c2 {name}"] = f"{upper:.4g} nats, {bound.UPPERS[name]}"
    return notes
