"""What every engine is: it runs jobs somewhere, and says which have ended."""

import dataclasses
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

from sas_jax.sweeps.run_cell import Job


@dataclasses.dataclass(frozen=True)
class Resources:
    """What a cell gets, and how many run at a time.

    cores: of a cell; 0 shares out what there is. gpus, tpus: of a cell, for engines
    that deal them out; a share, such as 0.25, lets cells share one. cells: at a time; 0
    means as many as fit. retries: how often a cell is begun again when its node is
    lost. address: of the cluster, as the engine takes it; "" is the engine's default.
    minutes: that the queue grants a cell.
    """

    cores: float = 0
    gpus: float = 0
    tpus: float = 0
    cells: int = 0
    retries: int = 3
    address: str = ""
    minutes: int = 24 * 60


class Ended(NamedTuple):
    """A job has ended. number: its place. error: "" where all is done."""

    number: int
    error: str


# Yields `Ended` once a job, in any order, and None every second or so between.
Engine = Callable[[Sequence[Job], Resources], Generator[Ended | None, None, None]]
