"""Aligns the same episodes on 1, 3 and 8 devices and compares them bit for bit.

Started by a test in a process of its own, with eight virtual devices and XLA's
optimisations on.
"""

import jax
import jax.numpy as jnp
import numpy as np

import sas_jax
from sas_jax.alignment.beginning import start_batch
from tests.helpers.product_policy import LENGTH, MODEL, OBS, make_variables

TILE, HORIZON = 4, 6
VARIANTS = ("none", "sas")
CONFIG = sas_jax.SASConfig(
    num_first=5, num_second=3, prompt_length=LENGTH, energy_window=2
)


def run(devices, seeds, tile=TILE):
    """`Alignment` `[E]` of the episodes of these seeds, on the host."""
    tiles = sas_jax.make_tiling(tile, devices)

    @jax.jit
    def align(variables, keys, obs, limits):
        tokens = jnp.ones(len(seeds)), limits[:, 0]
        state = start_batch(MODEL, variables, keys, obs, *tokens, tiling=tiles)
        return sas_jax.align_batch(
            MODEL,
            variables,
            keys,
            state,
            limits,
            config=CONFIG,
            variants=VARIANTS,
            horizon=HORIZON,
            tiling=tiles,
        )

    keys = jax.vmap(jax.random.key)(np.asarray(seeds))
    obs = [np.random.default_rng(s).normal(size=OBS) for s in seeds]
    limits = np.tile(np.float32([0.5, 20.0]), (len(seeds), 1))
    found = align(make_variables(), keys, np.float32(obs), limits)
    spread = len(found.first.energies.sharding.device_set)
    assert spread == devices, f"on {spread} devices"
    return jax.device_get(found)


def assert_equal(found, expected):
    def compare(path, a, b):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(compare, found, expected)


def main(counts):
    assert len(jax.devices()) == 8
    # 7 x 5 imaginations and 7 x 3: more than all devices or 1 take at once, and no
    # multiple of it.
    seeds = np.arange(40, 47)
    one = run(1, seeds)
    assert one.first.energies.shape == (7, 5, HORIZON)
    assert len(np.unique(one.first.energies)) > 100
    assert one.prompts.is_present[:, 1:].all()
    for devices in counts:
        assert_equal(run(devices, seeds), one)
    # Nor do the other episodes matter: one alone fills no tile.
    alone = run(counts[-1], seeds[2:3])
    assert_equal(alone, jax.tree.map(lambda x: x[2:3], one))
    print("equal")


if __name__ == "__main__":
    main((3, 8))
