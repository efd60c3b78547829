"""What cannot be trained on, and what is told before a training begins."""

import warnings

import pytest

from sas_jax.errors import UserError
from sas_jax.experiment import TrainConfig
from sas_jax.training import fit as training_fit
from tests.helpers.model_fixtures import make_config, make_episodes

CONFIG = make_config(decoder={"depth": 1})


def test_data_that_cannot_be_trained_on(tmp_path):
    with pytest.raises(UserError, match="1 episode.*expected at least 2"):
        training_fit.fit(CONFIG, make_episodes((8,)), tmp_path)
    with pytest.raises(UserError, match="65 steps; expected at most model.max_timest"):
        training_fit.fit(CONFIG, make_episodes((8, 65)), tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_training_within_its_warm_up_is_told():
    """At step t of a warm-up of W the rate is t / W of the one that was asked for."""
    with pytest.warns(training_fit.SettingsWarning, match="num_steps 100 is within"):
        training_fit.warn_settings(TrainConfig(num_steps=100, warmup=100))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training_fit.warn_settings(TrainConfig(num_steps=101, warmup=100))
        training_fit.warn_settings(TrainConfig(num_steps=1, warmup=0))
