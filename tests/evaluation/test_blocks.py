"""Blocks of episodes on several devices."""

import numpy as np
import pytest

from sas_jax.errors import UserError
from sas_jax.evaluation.blocks import BLOCK, BlockRunner, dealt
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
@pytest.mark.parametrize("case", ["few", "plans", "all"])
def test_optimised_results_do_not_depend_on_the_number_of_devices(case):
    """Bit for bit with XLA's optimisations on; also of a transformer that aligns again,
    on 1 and 3 devices.
    """
    run_on_devices(case, optimised=True)


@pytest.mark.parametrize(
    "count, places, least, expected",
    [
        (1, 8, 1, [1]),
        (32, 2, BLOCK, [32]),
        (32, 2, 16, [16, 16]),
        (32, 8, 16, [16, 16]),
        (31, 8, 16, [31]),
        (33, 2, BLOCK, [17, 16]),
        (100, 4, 16, [25, 25, 25, 25]),
        (100, 8, 16, [17, 17, 17, 17, 17, 15]),
        (128, 4, BLOCK, [32, 32, 32, 32]),
    ],
)
def test_every_episode_has_a_row_of_its_own_and_copies_fill_up(
    count, places, least, expected
):
    episode, is_own = dealt(count, places, least)
    np.testing.assert_array_equal(is_own.sum(axis=1), expected)
    np.testing.assert_array_equal(episode[is_own], np.arange(count))
    # What fills a block up is one of its own episodes: nothing else is reset for it.
    for rows, own in zip(episode, is_own, strict=True):
        assert set(rows) == set(rows[own])
        assert rows.shape == (BLOCK,)


def test_more_devices_than_there_are_is_an_error():
    with pytest.raises(UserError, match="devices: 99, but there are"):
        BlockRunner(None, {}, num_variants=1, cost_limits=(1.0,), key=None, devices=99)
    with pytest.raises(UserError, match="devices must be >= 0"):
        EvaluationConfig(devices=-1)
