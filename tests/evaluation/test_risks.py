"""A learner's cost critic as the risk of a sequence policy: units, levels, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import checkpoint, learners, risks
from sas_jax.errors import UserError
from sas_jax.learners.components.critics import Ensemble
from sas_jax.learners.components.limits import discounted_limit
from sas_jax.training import fit as training_fit
from tests.critic.test_network import make_critic
from tests.critic.test_network import make_spec as spec_of_critic
from tests.helpers.model_fixtures import make_episodes
from tests.learners.test_offline import LENGTHS, make_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """(algo) -> a workdir of two updates."""
    root = tmp_path_factory.mktemp("risks")

    def make(algo):
        path = root / algo
        if not path.exists():
            config = make_config(algo, num_steps=2, num_seeds=1, checkpoint_every=2)
            training_fit.fit(config, make_episodes(LENGTHS), path)
        return path

    return make


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["cpq", "fisor"])
def test_the_learner_is_asked_in_its_own_units(folder, algo):
    path = folder(algo)
    loaded = checkpoint.load(path)
    own = loaded.spec
    other = dataclasses.replace(
        own, obs_mean=own.obs_mean + 0.5, obs_std=2.0 * own.obs_std
    )
    found = risks.load(path, other)
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(3, 4, own.obs_dim)).astype(np.float32)
    action = rng.uniform(-1, 1, (3, 4, own.action_dim)).astype(np.float32)
    seen = jax.jit(lambda risk, *x: risk.risk(*x))(
        found, other.standardised(raw), jnp.asarray(action)
    )
    params = jax.tree.map(lambda x: x[0], loaded.state.params["cost_critic"])
    net = Ensemble(loaded.config.model.hidden)
    expected = net.apply({"params": params}, own.standardised(raw), action).max(0)
    np.testing.assert_allclose(seen, expected, atol=1e-5)
    level = found.level(jnp.array([20.0, 40.0]))
    discount = loaded.config.model.discount
    share = [discounted_limit(k / own.max_timestep, discount) for k in (20.0, 40.0)]
    np.testing.assert_allclose(level, [0, 0] if algo == "fisor" else share, rtol=1e-5)
    assert risks.digest(path) == checkpoint.digest_of(loaded)


@pytest.mark.slow
def test_what_has_no_cost_critic_or_another_task_is_refused(folder):
    path = folder("td3_bc")
    spec = checkpoint.load(path).spec
    with pytest.raises(UserError, match="algo 'td3_bc' has no cost critic; expected"):
        risks.load(path, spec)
    with pytest.raises(UserError, match="learnt on PointGoal1; expected CarGoal1"):
        risks.load(folder("cpq"), dataclasses.replace(spec, task="CarGoal1"))


def test_a_critics_file_is_still_one(tmp_path):
    from sas_jax.critic.file import save_critic

    path = tmp_path / "critic.npz"
    save_critic(path, make_critic(), {})
    found = risks.load(path, spec_of_critic())
    obs, action = jnp.ones((2, 14)), jnp.zeros((2, 2))
    np.testing.assert_allclose(
        found.risk(obs, action), make_critic().risk(obs, action), rtol=1e-5
    )
    assert len(risks.digest(path)) == 16
    with pytest.raises(UserError, match="no such file"):
        risks.load(tmp_path / "nothing.npz", spec_of_critic())


def test_which_learners_have_one():
    have = {n for n in learners.names() if learners.get(n).make_risk is not None}
    offline = {"cpq", "bcq_lag", "bear_lag", "caps", "o3srl", "fisor"}
    online = {"sac_lag", "sac_pid", "fac", "fac_penalty", "fac_regression", "sac_alam"}
    assert have == offline | online
