"""Data and DSRL files of PointGoal1's sizes, built without the code under test."""

import dataclasses
import pathlib

import h5py
import numpy as np

from sas_jax.data.episodes import Episodes

OBS, ACT = 60, 2  # PointGoal1
ROOT = pathlib.Path(__file__).resolve().parents[2]


def make(lengths=(30, 7, 13), seed=0) -> Episodes:
    rng = np.random.default_rng(seed)
    steps = sum(lengths)
    return Episodes(
        task="PointGoal1",
        observations=rng.normal(size=(steps, OBS)).astype(np.float32),
        actions=rng.uniform(-1, 1, (steps, ACT)).astype(np.float32),
        rewards=rng.normal(size=steps).astype(np.float32),
        costs=rng.integers(0, 2, steps).astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        final_observations=rng.normal(size=(len(lengths), OBS)).astype(np.float32),
        terminated=np.arange(len(lengths)) % 2 == 1,
    )


def make_sound(count=6, length=50, seed=0, **changes) -> Episodes:
    """Episodes about which nothing but their length is odd: costs on every other step.

    Returns of 15, costs of 25 at 50 steps.
    """
    rng = np.random.default_rng(seed)
    steps = count * length
    data = Episodes(
        task="PointGoal1",
        observations=rng.normal(size=(steps, OBS)).astype(np.float32),
        actions=rng.uniform(-1, 1, (steps, ACT)).astype(np.float32),
        rewards=(0.3 + 0.1 * (-1) ** np.arange(steps)).astype(np.float32),
        costs=(np.arange(steps) % 2).astype(np.float32),
        offsets=np.arange(count + 1) * length,
        final_observations=rng.normal(size=(count, OBS)).astype(np.float32),
        terminated=np.zeros(count, bool),
    )
    return dataclasses.replace(data, **changes)


def as_dsrl(data: Episodes) -> dict[str, np.ndarray]:
    """The seven arrays of a DSRL file, built here without the code under test."""
    last = data.offsets[1:] - 1
    following = np.roll(data.observations, -1, axis=0)
    following[last] = data.final_observations
    ends = np.zeros(data.num_steps, bool)
    ends[last] = True
    terminals = np.zeros(data.num_steps, bool)
    terminals[last] = data.terminated
    return {
        "observations": data.observations,
        "next_observations": following,
        "actions": data.actions,
        "rewards": data.rewards,
        "costs": data.costs,
        "terminals": terminals,
        "timeouts": ends & ~terminals,
    }


def save(path, arrays, task="PointGoal1", **kwargs):
    with h5py.File(path, "w") as file:
        if task is not None:
            file.attrs["task"] = np.bytes_(task)
        for key, value in arrays.items():
            file.create_dataset(key, data=value, **kwargs)
    return path


def assert_same(a: Episodes, b: Episodes):
    assert a.fingerprint() == b.fingerprint()
