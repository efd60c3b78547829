"""Runs the same episodes on one and on more devices and compares them bit for bit.

Started by a test in a process of its own, with eight virtual devices and with XLA's
optimisations on: what is fused with what, and so rounded how, is theirs to decide.
"""

import dataclasses
import sys

import jax
import numpy as np

from sas_jax.alignment.config import PlanConfig
from sas_jax.evaluation import blocks
from sas_jax.learners import sequence
from tests.helpers import product_policy
from tests.helpers.fake_envs import FakeEnvs
from tests.helpers.model_fixtures import make_config, make_spec, make_variables

STEPS, EPISODES = 5, 15
VARIANTS = ("none", "sas")
SAS = {"track_drift": True, "num_first": 2, "horizon": 4}


def make_small():
    """A learner that compiles in little time, and its variables."""
    config = make_config(sas=SAS).sas
    learner = product_policy.make_policy(config, VARIANTS, horizon=config.horizon)
    return learner, product_policy.make_variables()


def make_planner():
    """The same where one of two variants plans."""
    plan = PlanConfig(
        num_candidates=4, num_reference=2, horizon=3, execute=2, tolerance=None
    )
    config = dataclasses.replace(make_config(sas=SAS).sas, plan=plan)
    learner = product_policy.make_policy(
        config, ("none", "plan"), horizon=config.horizon
    )
    return learner, product_policy.make_variables()


def make_transformer():
    """The same of a transformer that aligns again in flight."""
    sas, spec = SAS | {"realign_every": 2}, make_spec()
    config = make_config(algo="cdt", decoder={"depth": 1, "width": 8}, sas=sas)
    learner = sequence.make_policy(config, spec, variants=VARIANTS)
    return learner, make_variables(config, spec)


def run(agent, devices):
    """All blocks of the episodes: arrays with the episodes along their axis 1."""
    runner = blocks.BlockRunner(
        *agent,
        num_variants=len(VARIANTS),
        cost_limits=(5.0, 20.0),
        key=jax.random.key(3),
        devices=devices,
        least=1,
    )
    size = min(runner.num_episodes, EPISODES)
    envs = FakeEnvs(runner.num_groups * size, steps=STEPS)
    found = []
    for first in range(0, EPISODES, size):
        seeds = np.arange(100 + first, 100 + min(first + size, EPISODES))
        out = runner.run(envs, seeds)
        found.append(
            {"reward": out.reward, "cost": out.cost, "length": out.length}
            | {f"begin {k}": x for k, x in out.diagnostics.items()}
            | {f"end {k}": x for k, x in out.ended.items()}
        )
    return {k: np.concatenate([f[k] for f in found], axis=1) for k in found[0]}


def main(make_agent, devices):
    blocks.BLOCK = 2
    assert len(jax.devices()) == 8
    agent = make_agent()
    one = run(agent, 1)
    assert one["reward"].shape == (4, EPISODES, STEPS)
    if make_agent is make_planner:
        assert (one["end num_plans"][2:] == -(-STEPS // 2)).all()
    else:
        assert np.isfinite(one["end drift"][2:]).all()
    assert len(np.unique(one["reward"])) > 100
    if "end num_realigned" in one:
        assert (one["end num_realigned"][2:] == 2).all()
    # Every device compiles programs of its own: few are dear enough.
    many = run(agent, devices)
    for name, expected in one.items():
        np.testing.assert_array_equal(many[name], expected, err_msg=name)
    print("equal")


if __name__ == "__main__":
    cases = {
        "few": (make_small, 2),
        "plans": (make_planner, 4),
        "all": (make_transformer, 3),
    }
    main(*cases[sys.argv[1]])
