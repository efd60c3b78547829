"""A Ctrl-C that something swallows ends a recording all the same."""

import contextlib
import os
import signal
import time

import pytest

from sas_jax.data import collect
from tests.data.test_collect import PLAN


def test_a_ctrl_c_that_is_lost_is_noticed(tmp_path):
    """As in a finaliser, where Python ignores what is raised."""
    before, seen = signal.getsignal(signal.SIGINT), []
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def press(done, total):
        seen.append(done)
        if done == 1:
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1.0)

    try:
        with pytest.raises(KeyboardInterrupt):
            collect.collect(PLAN, tmp_path / "a.hdf5", workers=1, progress=press)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen[-1] < PLAN.episodes and not (tmp_path / "a.hdf5").exists()
