"""Runs the same episodes on 1, 3 and 8 devices and compares them bit for bit.

Started by a test in a process of its own, with eight virtual devices.
"""

import jax
import numpy as np

from sas_jax import rollout
from sas_jax.learners import sequence
from tests.fake_envs import FakeEnvs
from tests.model_fixtures import make_config, make_spec, make_variables

STEPS = 5
VARIANTS = ("none", "sas")


def run(devices, count):
    """All blocks of `count` episodes: arrays with the episodes along their axis 1."""
    sas = {"realign_every": 2, "track_drift": True, "num_first": 2, "horizon": 4}
    config = make_config(algo="cdt", decoder={"depth": 1, "width": 8}, sas=sas)
    spec = make_spec()
    runner = rollout.BlockRunner(
        sequence.make(config, spec, variants=VARIANTS),
        make_variables(config, spec),
        num_variants=len(VARIANTS),
        cost_limits=(5.0, 20.0),
        key=jax.random.key(3),
        devices=devices,
    )
    size = min(runner.num_episodes, count)
    envs = FakeEnvs(runner.num_groups * size, steps=STEPS)
    found = []
    for first in range(0, count, size):
        seeds = np.arange(100 + first, 100 + min(first + size, count))
        out = runner.run(envs, seeds)
        found.append(
            {"reward": out.reward, "cost": out.cost, "length": out.length}
            | {f"begin {k}": x for k, x in out.diagnostics.items()}
            | {f"end {k}": x for k, x in out.ended.items()}
        )
    return {k: np.concatenate([f[k] for f in found], axis=1) for k in found[0]}


def main():
    rollout.BLOCK = 2
    assert len(jax.devices()) == 8
    one = run(1, 11)
    assert one["reward"].shape == (4, 11, STEPS)
    assert (one["end num_realigned"][2:] == 2).all()
    assert np.isfinite(one["end drift"][2:]).all()
    assert len(np.unique(one["reward"])) > 100
    for devices in (3, 8):
        many = run(devices, 11)
        for name, expected in one.items():
            np.testing.assert_array_equal(many[name], expected, err_msg=name)
    print("equal")


if __name__ == "__main__":
    main()
