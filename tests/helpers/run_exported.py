"""Runs an exported policy with JAX and numpy alone; no import of sas_jax.

python run_exported.py FILE STEPS

Prints the actions `[STEPS, B, A]` as JSON. Observations are the step's number times
0.01, for the episodes 5, 6, ...
"""

import io
import json
import sys
import zipfile

import jax
import numpy as np


def main(path, steps):
    with zipfile.ZipFile(path) as file:
        about = json.loads(file.read("about.json"))
        arrays = np.load(io.BytesIO(file.read("variables.npz")))
        begin, act = (
            jax.jit(jax.export.deserialize(bytearray(file.read(name))).call)
            for name in ("begin.bin", "act.bin")
        )
    variables, count = [arrays[name] for name in arrays.files], about["episodes"]
    obs = np.zeros((count, about["obs_dim"]), np.float32)
    ones, actions = np.ones(count, np.float32), []
    memory = begin(
        variables,
        obs,
        np.arange(5, 5 + count, dtype=np.uint32),
        about["target_return"] * ones,
        about["cost_limit"] * ones,
    )
    for step in range(steps):
        is_first = np.full(count, step == 0)
        action, memory = act(
            variables, memory, obs + np.float32(0.01 * step), ones, 0 * ones, is_first
        )
        actions.append(np.asarray(action).tolist())
    print(json.dumps([actions, sorted(m for m in sys.modules if "sas_jax" in m)]))


if __name__ == "__main__":
    import jax.export

    main(sys.argv[1], int(sys.argv[2]))
