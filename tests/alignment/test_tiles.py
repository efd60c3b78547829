"""Rows in tiles of one size, on one device and on several."""

import jax
import numpy as np
import pytest

import sas_jax
from sas_jax.alignment.tiles import map_tiles
from sas_jax.errors import UserError
from tests.helpers.fresh_process import output_of

WEIGHTS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def project(row, weights):
    return {"y": row["x"] @ weights, "n": row["n"] + 1}


def rows_of(count):
    rng = np.random.default_rng(1)
    return {
        "x": rng.normal(size=(count, 5)).astype(np.float32),
        "n": np.arange(count, dtype=np.int32),
    }


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_every_row_is_worked_off_once(count):
    """Fewer rows than a tile has, a whole one, and a third one of a single row."""
    rows, tiles = rows_of(count), sas_jax.make_tiling(4)
    found = jax.jit(lambda rows, w: map_tiles(project, rows, w, tiles))(rows, WEIGHTS)
    np.testing.assert_array_equal(found["n"], np.arange(count) + 1)
    np.testing.assert_allclose(found["y"], rows["x"] @ WEIGHTS, rtol=1e-5)


def test_a_loop_of_one_turn_stays_a_loop():
    """Inlined, it would be fused with what is around it, and round differently."""
    tiles = sas_jax.make_tiling(4)
    run = jax.jit(lambda rows, w: map_tiles(project, rows, w, tiles))
    program = run.lower(rows_of(4), WEIGHTS).compile().as_text()
    assert program.count(" while(") == 1


def test_impossible_tilings_are_one_line():
    with pytest.raises(UserError, match="tile: expected at least 1 row, got 0"):
        sas_jax.make_tiling(0)
    with pytest.raises(UserError, match="devices: 99; expected 0 .all. to 1"):
        sas_jax.make_tiling(4, 99)


@pytest.mark.slow
def test_alignment_is_the_same_on_one_three_and_eight_devices():
    """Bit for bit, with XLA's optimisations on; see `tiled_alignment`."""
    output = output_of("tiled_alignment", devices=8, optimised=True)
    assert output.split() == ["equal"]
