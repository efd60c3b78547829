"""Runs variants beside different others and compares their rows bit for bit.

Started by a test in a process of its own, where XLA's optimisations are on: what is
fused with what, and so rounded how, is theirs to decide.
"""

import sys

import jax
import numpy as np

from sas_jax import rollout
from sas_jax.settings import SASConfig
from tests.fake_envs import FakeEnvs
from tests.product_policy import LENGTH, make_learner, make_variables

STEPS, EPISODES = 6, 8
# Each variant must be the same in all the sets that it appears in.
FEW = (("none",), ("none", "gate"), ("sas", "none"))
ALL = (*FEW, ("sas",), ("sas", "none", "gate", "critic"))


def run(variants, realign_every):
    """name -> `[variants, episodes, ...]` of everything an evaluation reports."""
    config = SASConfig(
        num_first=2,
        num_second=3,
        prompt_length=LENGTH,
        track_drift=True,
        realign_every=realign_every,
    )
    runner = rollout.BlockRunner(
        make_learner(config, variants, horizon=5, report_limits=(0.5, 20.0)),
        make_variables(),
        num_variants=len(variants),
        cost_limits=(20.0,),
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
    rollout.BLOCK = EPISODES
    known, differ = {}, []
    for variants in sets:
        found = run(variants, realign_every)
        assert len(np.unique(found["reward"])) > STEPS * EPISODES / 2
        for row, variant in enumerate(variants):
            mine = {name: x[row] for name, x in found.items()}
            expected = known.setdefault(variant, mine)
            assert set(mine) == set(expected), set(mine) ^ set(expected)
            differ += [
                f"{variant} of {','.join(variants)}: {name}"
                for name, x in expected.items()
                if not np.array_equal(mine[name], x, equal_nan=True)
            ]
    assert np.isfinite(known["sas"]["end drift"]).all()
    assert (known["gate"]["end num_gated"] > 0).any()
    print("\n".join(differ) or "equal")


if __name__ == "__main__":
    main(FEW, 0) if sys.argv[1] == "few" else main(ALL, 2)
