"""What the pictures share: the draws of acting, tokens of data, energies of data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment.beginning import episode_key
from sas_jax.data.episodes import Episodes
from sas_jax.errors import UserError
from sas_jax.learners import sequence
from sas_jax.studies.probe import data_energies, data_steps, make_probe
from tests.evaluation.test_evaluate import SIZES, make_checkpoint
from tests.helpers import shifted_policy
from tests.helpers.model_fixtures import make_episodes


@pytest.mark.slow
def test_start_has_the_draws_of_acting():
    loaded = make_checkpoint()
    probe = make_probe(loaded, seed=4, train_seed=1, cost_limit=25.0)
    obs = jnp.linspace(-1, 1, 60)
    policy = sequence.make_policy(loaded.config, loaded.spec, variants=("u",))
    stream = episode_key(jax.random.key(4), jnp.uint32(9), is_null=jnp.asarray(False))
    both = jax.jit(
        lambda: (
            probe.start(probe.variables, jnp.uint32(9), obs)[1].log_density,
            policy.align_episode(
                probe.variables, stream, obs, jnp.full(1, 25.0)
            ).first.outputs.log_density[:, 0],
        )
    )
    mine, theirs = both()
    np.testing.assert_allclose(theirs, np.full(2, mine[0]), rtol=1e-5)


def test_density_replaces_the_configurations():
    probe = make_probe(make_checkpoint(), density="marginal")
    assert probe.config.density == "marginal"
    assert probe.loaded.config.sas.density == "marginal"
    plain = make_probe(make_checkpoint())
    assert plain.config.density == "transition"
    assert probe.settings() != plain.settings()


def one_column(rewards, costs):
    """Two episodes of 3 and 1 steps, observations 0, 1, ..."""
    return Episodes(
        task="PointGoal1",
        observations=np.arange(4, dtype=np.float32)[:, None],
        actions=np.zeros((4, 1), np.float32),
        rewards=np.float32(rewards),
        costs=np.float32(costs),
        offsets=np.array([0, 3, 4]),
        final_observations=np.zeros((2, 1), np.float32),
        terminated=np.zeros(2, bool),
    )


def test_tokens_of_data_are_what_is_left_of_the_episode():
    steps = data_steps(one_column([1, 2, 4, 8], [0, 1, 1, 0]), np.array([1, 0]))
    np.testing.assert_array_equal(steps.length, [1, 3])
    np.testing.assert_array_equal(steps.return_to_go, [[8, 0, 0], [7, 6, 4]])
    np.testing.assert_array_equal(steps.cost_to_go[1], [2, 2, 1])
    np.testing.assert_array_equal(steps.obs[1, :, 0], [0, 1, 2])


def test_energies_of_data_by_hand():
    """Window 1: E = -(log rho + log pi), of a policy whose densities are known."""
    loaded = make_checkpoint()
    config = dataclasses.replace(loaded.config.sas, energy_window=1)
    probe = make_probe(loaded)._replace(
        model=shifted_policy.MODEL, variables={}, config=config
    )
    episodes = one_column([0, 0, 0, 0], [0, 0, 0, 0])
    probe = probe._replace(
        loaded=loaded._replace(
            spec=dataclasses.replace(loaded.spec, obs_dim=1, action_dim=1)
        )
    )
    found = data_energies(probe, episodes)
    mean, sd = 0.1 * np.array([0.0, 1.0, 2.0]), shifted_policy.SCALE
    log_pi = -0.5 * (mean / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)
    log_rho = np.array([0.0, -0.5, -0.5])  # at 0, then one unit away each time
    np.testing.assert_allclose(found[0], -(log_pi + log_rho), rtol=1e-5)
    assert np.isnan(found[1, 1:]).all() and np.isfinite(found[1, 0])


def test_data_that_do_not_fit_are_named():
    probe = make_probe(make_checkpoint())
    with pytest.raises(UserError, match="observations of size 5"):
        data_energies(probe, make_episodes())
    with pytest.raises(UserError, match="1001 steps"):
        data_energies(probe, make_episodes((1001,), **SIZES))
