"""Who foretells a cost: closed cases, refusals, and a learner from end to end."""

import dataclasses

import numpy as np
import pytest

from sas_jax.errors import UserError
from sas_jax.online import fit as online_fit
from sas_jax.studies import foretelling
from sas_jax.training import fit as training_fit
from tests.helpers import entry_points
from tests.helpers.model_fixtures import make_episodes
from tests.learners.test_offline import LENGTHS, make_config
from tests.online.test_online import ENV, SPEC
from tests.online.test_online import make_config as make_online_config


def test_a_cost_is_soon_for_so_many_steps_before_it():
    cost = np.array([0, 0, 0, 1.0, 0, 0])
    assert foretelling.soon(cost, 1).tolist() == [0, 0, 0, 1, 0, 0]
    assert foretelling.soon(cost, 3).tolist() == [0, 1, 1, 1]


def test_the_truth_foretells_and_its_shuffle_does_not():
    episodes = make_episodes((60, 80, 70, 90))
    near = np.concatenate(
        [
            np.pad(foretelling.soon(cost, 10), (0, 9)).astype(float)
            for cost in np.split(episodes.costs, episodes.offsets[1:-1])
        ]
    )
    place = {row.tobytes(): i for i, row in enumerate(episodes.observations)}

    def truth(obs, action):
        assert obs.shape[1:] == (5,) and action.shape[1:] == (2,)
        return np.array([near[place[row.tobytes()]] for row in obs])

    signals = {"risk": truth, "price": lambda obs, action: -truth(obs, action)}
    found = {f.name: f for f in foretelling.foretell(signals, episodes, (10,))}
    assert found["risk"].auc.mean == 1.0 and found["price"].auc.mean == 0.0
    assert 0.35 < found["shuffled"].auc.mean < 0.65
    assert 0 < found["risk"].base < 1 and found["risk"].base == found["price"].base


def test_short_episodes_and_wild_scores_are_named():
    episodes = make_episodes((30, 12))
    with pytest.raises(UserError, match="50 steps; expected fewer than .* 12"):
        foretelling.foretell({}, episodes)
    wild = {"risk": lambda obs, action: np.full(len(obs), np.nan)}
    with pytest.raises(UserError, match="risk: a score is not finite"):
        foretelling.foretell(wild, episodes, (3,))


@pytest.mark.slow
def test_a_learner_is_asked_about_what_it_has_not_seen(tmp_path):
    episodes = make_episodes(LENGTHS)
    config = make_config("cpq", num_steps=2, num_seeds=1, checkpoint_every=2)
    training_fit.fit(config, episodes, tmp_path / "cpq")
    split, path = (config.train.held_out, config.train.seed), str(tmp_path / "cpq")
    held_out, spec = foretelling.held_out_part(episodes, *split)
    signals = foretelling.signals_of(path, spec)
    assert set(signals) == {"risk"}
    assert signals["risk"](held_out.observations, held_out.actions).shape == (
        held_out.num_steps,
    )
    _, other = foretelling.held_out_part(episodes, split[0], split[1] + 1)
    with pytest.raises(UserError, match="trained on other episodes than those left"):
        foretelling.signals_of(path, other)


@pytest.mark.slow
def test_prices_are_asked_where_states_have_them(tmp_path):
    workdir = tmp_path / "alam"
    online_fit.fit(make_online_config(num_seeds=1), workdir, env=ENV, spec=SPEC)
    signals = foretelling.signals_of(str(workdir), SPEC)
    assert set(signals) == {"risk", "price"}
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(60, SPEC.obs_dim)).astype(np.float32)
    action = rng.uniform(-1, 1, (60, SPEC.action_dim)).astype(np.float32)
    price = np.asarray(signals["price"](obs, action))
    assert price.shape == (60,) and (price >= 0).all() and np.ptp(price) > 0
    # Nothing is held out of what learnt while it acted.
    recorded = dataclasses.replace(SPEC, fingerprint="of a recording")
    assert set(foretelling.signals_of(str(workdir), recorded)) == {"risk", "price"}


def test_the_command_names_what_is_missing(tmp_path):
    done = entry_points.run("foretell", "--critics=a.npz")
    assert done.returncode == 2 and "--critics and --data: expected both" in done.stderr
    data = f"--data={tmp_path / 'none.hdf5'}"
    done = entry_points.run("foretell", "--critics=a.npz", data)
    assert done.returncode == 2 and "none.hdf5" in done.stderr
