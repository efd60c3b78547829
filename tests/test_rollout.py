"""Blocks of episodes on several devices."""

import pytest

from sas_jax.errors import UserError
from sas_jax.evaluate import EvaluationConfig
from sas_jax.rollout import BlockRunner
from tests.fresh_process import output_of


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_devices():
    """Bit for bit on 1, 3 and 8 virtual devices, drift and re-alignments included."""
    assert output_of("sharded_rollout", devices=8).split() == ["equal"]


def test_more_devices_than_there_are_is_an_error():
    with pytest.raises(UserError, match="devices: 99, but there are"):
        BlockRunner(None, {}, num_variants=1, cost_limits=(1.0,), key=None, devices=99)
    with pytest.raises(UserError, match="devices: expected >= 0"):
        EvaluationConfig(devices=-1)
