"""Settings of Algorithm 1 that make no sense are one line."""

import pytest

from sas_jax.alignment.config import SASConfig
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
