"""Blocks of episodes on several devices."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sas_jax.errors import UserError
from sas_jax.evaluate import EvaluationConfig
from sas_jax.rollout import BlockRunner


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_devices():
    """Bit for bit on 1, 3 and 8 virtual devices, drift and re-alignments included."""
    flags = os.environ.get("XLA_FLAGS", "")
    flags += " --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-m", "tests.sharded_rollout"],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["equal"]


def test_more_devices_than_there_are_is_an_error():
    with pytest.raises(UserError, match="devices: 99, but there are"):
        BlockRunner(None, {}, num_variants=1, cost_limits=(1.0,), key=None, devices=99)
    with pytest.raises(UserError, match="devices: expected >= 0"):
        EvaluationConfig(devices=-1)
