"""Runs of the vector environment that several test modules compare."""

import pathlib
import time

import numpy as np

SEEDS = np.array([3, 14, 15, 92])
ROOT = pathlib.Path(__file__).resolve().parents[2]


def actions_at(step, num_envs=4):
    rng = np.random.default_rng([7, step])
    return rng.uniform(-1, 1, (num_envs, 2))


def rollout(env, num_steps, after_step=lambda step: None):
    batches = [env.reset(SEEDS)]
    for step in range(num_steps):
        batches.append(env.step(actions_at(step)))
        after_step(step)
    return batches


def assert_same(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        for name, a, b in zip(one._fields, one, other, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)


def is_running(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return False
    return state[0] != "Z"


def wait_until_gone(pids, seconds=10.0):
    deadline = time.monotonic() + seconds
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(is_running, pids))
