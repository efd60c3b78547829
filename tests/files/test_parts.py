"""Measurements in parts: fixed size, kept, taken up again."""

import numpy as np
import pytest

from sas_jax.files.parts import in_parts

SEEDS = np.arange(10, 17)


def test_parts_are_filled_up_joined_and_kept(tmp_path):
    calls, done = [], []

    def measure(seeds, count):
        calls.append((seeds.tolist(), count))
        return {"double": 2 * seeds, "row": np.stack([seeds, -seeds], axis=1)}

    def run(settings):
        return in_parts(
            tmp_path, settings, SEEDS, 3, measure, on_done=lambda *x: done.append(x)
        )

    found = run({"a": 1})
    assert calls == [([10, 11, 12], 3), ([13, 14, 15], 3), ([16, 16, 16], 1)]
    assert done == [(3, True), (3, True), (1, True)]
    np.testing.assert_array_equal(found["double"], 2 * SEEDS)
    np.testing.assert_array_equal(found["row"][:, 1], -SEEDS)
    again = run({"a": 1})
    assert len(calls) == 3
    assert done[3:] == [(3, False), (3, False), (1, False)]
    np.testing.assert_array_equal(again["row"], found["row"])
    run({"a": 2})
    assert len(calls) == 6


def test_a_stop_loses_one_part(tmp_path):
    calls = []

    def measure(seeds, count):
        calls.append(int(seeds[0]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return {"seed": seeds}

    with pytest.raises(KeyboardInterrupt):
        in_parts(tmp_path, {}, SEEDS, 3, measure)
    found = in_parts(tmp_path, {}, SEEDS, 3, measure)
    assert calls == [10, 13, 13, 16]
    np.testing.assert_array_equal(found["seed"], SEEDS)
