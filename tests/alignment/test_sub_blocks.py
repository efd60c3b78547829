"""Rows worked off in sub-blocks."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment import sub_blocks


def doubled(is_due, table):
    """Rows of `table` that are due, times a matrix of twos on the diagonal."""

    def some(index, is_real, held):
        del held  # what is computed does not depend on the loop
        return table[index] @ (2 * jnp.eye(table.shape[1])), is_real

    return sub_blocks.work_off(some, is_due, jnp.zeros_like(table))


@pytest.mark.parametrize("count", [1, 3, 8, 21])
def test_rows_that_are_due_are_worked_off(count):
    rng = np.random.default_rng(count)
    table = np.float32(rng.normal(size=(count, 4)))
    is_due = rng.random(count) < 0.5
    found = jax.jit(doubled)(is_due, table)
    np.testing.assert_allclose(found, np.where(is_due[:, None], 2 * table, 0.0))


@pytest.mark.parametrize("count", [1, 8, 21])
def test_no_row_due_is_no_work(count):
    """XLA must not move the work out of the loop, where it would always be done."""
    table = jnp.ones((count, 64))
    text = jax.jit(doubled).lower(jnp.zeros(count, bool), table).compile().as_text()
    work = re.compile(r"\b(dot|multiply_reduce|__onednn|custom-call)\b|dot_general")
    entry = text[text.index("ENTRY") :]
    assert work.search(text), text
    assert not work.search(entry), entry
