"""Settings of alignment that make no sense are one line."""

import pytest

from sas_jax.alignment.config import PlanConfig, SASConfig
from sas_jax.errors import UserError


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("prompt_place", "besides", "did you mean 'beside'"),
        ("prompt_place", "", "must be one of pinned, beside, sliding"),
        (
            "density",
            "bogus",
            "sas.density must be one of transition, marginal, got 'bogus'",
        ),
    ],
)
def test_an_unknown_name_lists_the_known_ones(name, value, message):
    with pytest.raises(UserError, match=message):
        SASConfig(**{name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"execute": 20, "horizon": 15}, "execute 20: expected at most"),
        ({"horizon": 0}, "horizon"),
        ({"num_candidates": 0}, "num_candidates"),
        ({"num_reference": 16}, "num_reference 16: expected less than"),
        ({"persistence": 1.5}, "persistence"),
        ({"cost_weight": -1.0}, "cost_weight"),
        ({"slack": -1.0}, "slack"),
        ({"max_error": 0.0}, "max_error"),
        ({"tolerance": -0.1}, "tolerance"),
        ({"push_steps": -1}, "push_steps"),
        ({"least_saving": 1.1}, "least_saving"),
    ],
)
def test_plan_settings_out_of_range(change, message):
    with pytest.raises(UserError, match=message):
        PlanConfig(**change)
