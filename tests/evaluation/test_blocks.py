"""Blocks of episodes on several devices."""

import pytest

from sas_jax.errors import UserError
from sas_jax.evaluation.blocks import BlockRunner
from sas_jax.evaluation.evaluate import EvaluationConfig
from tests.helpers.fresh_process import output_of


def run_on_devices(case, **settings):
    output = output_of("sharded_rollout", case, devices=8, **settings)
    assert output.split() == ["equal"]


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_devices():
    """Bit for bit on 1 and 2 virtual devices."""
    run_on_devices("few")


@pytest.mark.slow
@pytest.mark.parametrize("case", ["few", "all"])
def test_optimised_results_do_not_depend_on_the_number_of_devices(case):
    """Bit for bit with XLA's optimisations on; also of a transformer that aligns again,
    on 1 and 3 devices.
    """
    run_on_devices(case, optimised=True)


def test_more_devices_than_there_are_is_an_error():
    with pytest.raises(UserError, match="devices: 99, but there are"):
        BlockRunner(None, {}, num_variants=1, cost_limits=(1.0,), key=None, devices=99)
    with pytest.raises(UserError, match="devices must be >= 0"):
        EvaluationConfig(devices=-1)
