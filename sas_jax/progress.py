"""How long measurements say how far they are, whoever listens.

The bars that listen are in `experiments.progress`: nothing here draws.
"""

from collections.abc import Callable
from typing import NamedTuple


class Progress(NamedTuple):
    """What a measurement tells. Work is counted in steps of single trajectories,
    imagined, acted or replayed.

    expect(steps): all that there is to do. stage(words): what is being done now.
    done(steps): just done. skip(steps): known from an earlier run.
    """

    expect: Callable[[int], None]
    stage: Callable[[str], None]
    done: Callable[[int], None]
    skip: Callable[[int], None]


SILENT = Progress(*(lambda _: None,) * 4)
