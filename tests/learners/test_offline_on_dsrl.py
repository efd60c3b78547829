"""The learners on a published recording: what is regressed falls, policies act."""

import dataclasses
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import learners
from sas_jax.data import dsrl
from sas_jax.training import fit as training_fit
from sas_jax.types import Rows, TimeStep
from tests.helpers.dsrl_samples import ROOT
from tests.learners.test_offline import make_config

SUBSET = Path(
    os.environ.get("SAS_JAX_DSRL_SUBSET", ROOT / "../shared/data/dsrl_bullet_subset")
)
FILE = SUBSET / "SafetyBallRun-v0.hdf5"
# A loss with a fixed target, which training must bring down on held-out episodes.
FALLING = {
    "cpq": "vae_loss",
    "bcq_lag": "vae_loss",
    "bear_lag": "vae_loss",
    "coptidice": "nu_loss",
    "caps": "actor_loss",
    "fisor": "actor_loss",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FILE.exists(), reason=f"no {FILE.name} of DSRL"),
]


@pytest.mark.parametrize("algo", FALLING)
def test_on_ball_run(algo, tmp_path):
    episodes = dsrl.load(FILE)
    config = make_config(
        algo,
        "BallRun",
        cost_limits=(20.0,) if learners.get(algo).by_threshold else (),
        num_steps=400,
        chunk=20,
        checkpoint_every=20,
        batch_rows=128,
        learning_rate=1e-3,
        num_seeds=1,
        keep_checkpoints=1,
    )
    model = dataclasses.replace(config.model, hidden=(32,), actor_rate=1e-3)
    config = dataclasses.replace(config, model=model)
    result = training_fit.fit(config, episodes, tmp_path)
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index(f"val_{FALLING[algo]}")
    curve = [float(line.split(",")[column]) for line in lines[1:]]
    assert len(curve) == 20 and np.isfinite(curve).all()
    assert np.mean(curve[-3:]) < np.mean(curve[:3]) - 0.02 * abs(np.mean(curve[:3]))
    # It acts inside the box, and not the same everywhere.
    algorithm = learners.get(algo)
    policy = algorithm.make_policy(config, result.spec, variants=("none",))
    known = algorithm.variables_of(jax.tree.map(lambda x: x[0], result.state))
    rows = Rows(jnp.full(8, 20.0), jnp.arange(8, dtype=jnp.uint32))
    zeros = jnp.zeros(8)
    # At eight times within eight episodes of 100 steps.
    obs = jnp.asarray(episodes.observations[:2480:310])
    ts = TimeStep(obs, zeros, zeros, zeros == 0)
    carry = policy.initial_carry(known, rows, jax.random.key(0))
    action, _ = jax.jit(policy.act)(known, carry, ts, jax.random.key(0))
    assert np.abs(action).max() <= 1 and np.std(action, axis=0).max() > 1e-3
