"""Runs variants beside different others and compares their rows bit for bit.

Thresholds stand side by side in the same way.

Started by a test in a process of its own, where XLA's optimisations are on: what is
fused with what, and so rounded how, is theirs to decide.
"""

import itertools
import sys

import jax
import numpy as np

from sas_jax.alignment.config import SASConfig
from sas_jax.evaluation import blocks
from tests.helpers.fake_envs import FakeEnvs
from tests.helpers.product_policy import LENGTH, make_policy, make_variables

STEPS, EPISODES = 6, 8
# Each variant at a threshold must be the same in all the sets that it appears in.
FEW = (
    (("none",), (20.0,)),
    (("none", "gate"), (20.0,)),
    (("sas", "none"), (20.0,)),
    (("none", "gate"), (80.0, 20.0, 40.0)),
)
ALL = (
    *FEW,
    (("sas",), (20.0,)),
    (("sas", "none", "gate", "critic"), (20.0,)),
    (("sas", "critic"), (40.0, 20.0)),
)


def run(variants, limits, realign_every):
    """name -> `[groups, episodes, ...]` of everything an evaluation reports."""
    config = SASConfig(
        num_first=2,
        num_second=3,
        prompt_length=LENGTH,
        track_drift=True,
        realign_every=realign_every,
    )
    runner = blocks.BlockRunner(
        make_policy(config, variants, horizon=5, report_limits=(0.5, 20.0)),
        make_variables(),
        num_variants=len(variants),
        cost_limits=limits,
        key=jax.random.key(3),
    )
    envs = FakeEnvs(runner.num_groups * EPISODES, steps=STEPS)
    out = runner.run(envs, np.arange(100, 100 + EPISODES))
    return (
        {"reward": out.reward, "cost": out.cost, "length": out.length}
        | {f"begin {k}": x for k, x in out.diagnostics.items()}
        | {f"end {k}": x for k, x in out.ended.items()}
    )


def main(sets, realign_every):
    """One line for every result that has other bits; `equal` where there is none."""
    blocks.BLOCK = EPISODES
    known, differ = {}, []
    for variants, limits in sets:
        found = run(variants, limits, realign_every)
        assert len(np.unique(found["reward"])) > STEPS * EPISODES / 2
        for row, group in enumerate(itertools.product(variants, limits)):
            mine = {name: x[row] for name, x in found.items()}
            expected = known.setdefault(group, mine)
            assert set(mine) == set(expected), set(mine) ^ set(expected)
            differ += [
                f"{group} of {variants} x {limits}: {name}"
                for name, x in expected.items()
                if not np.array_equal(mine[name], x, equal_nan=True)
            ]
    assert np.isfinite(known["sas", 20.0]["end drift"]).all()
    assert (known["gate", 20.0]["end num_gated"] > 0).any()
    strict, loose = (known["gate", limit]["reward"] for limit in (20.0, 80.0))
    assert (strict != loose).any()
    print("\n".join(differ) or "equal")


if __name__ == "__main__":
    main(FEW, 0) if sys.argv[1] == "few" else main(ALL, 2)
