"""Files to read and readings of them, each in a fresh process."""

import pathlib
import statistics
import subprocess
import sys

import h5py
import numpy as np
from tqdm import tqdm

from sas_jax.data.dsrl import KEYS

LAYOUTS = {
    "compressed": {"chunks": True, "compression": "gzip"},
    "contiguous": {},
}
# Each in a process of its own that prints seconds, bytes of the peak and of the arrays.
_READERS = {
    "raw h5py": "a = [file[k][()] for k in dsrl.KEYS]; size = sum(x.nbytes for x in a)",
    "sas_jax": "loaded = dsrl.load(path); size = loaded.nbytes",
}
_SCRIPT = """
import sys, time
import h5py
from sas_jax.data import dsrl
from sas_jax.envs import tasks
path = sys.argv[1]
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(l for l in lines if l.startswith("VmHWM")).split()[1])
before, start = peak(), time.perf_counter()
file = h5py.File(path)
{read}
print(time.perf_counter() - start, peak() - before, size)
"""


def write_file(path: pathlib.Path, steps: int, layout: str) -> None:
    """A file of PointGoal1's sizes whose values compress about as real ones do."""
    block = 20_000
    lidar = np.random.default_rng(0).normal(size=(block, 60)).astype(np.float32)
    lidar = np.maximum(lidar, 0.0)
    shapes = dict.fromkeys(KEYS, ()) | {"actions": (2,)}
    shapes |= {"observations": (60,), "next_observations": (60,)}
    with h5py.File(path, "w") as file:
        file.attrs["task"] = np.bytes_("PointGoal1")
        for key in tqdm(KEYS, desc=f"write {path.stem}"):
            kind = bool if key in KEYS[-2:] else np.float32
            dataset = file.create_dataset(
                key, (steps, *shapes[key]), kind, **LAYOUTS[layout]
            )
            for start in range(0, steps, block):
                rows = min(block, steps - start)
                # Rows follow one another, as in every file that is read.
                shown = np.roll(lidar, -1, 0) if key.startswith("next") else lidar
                value = np.resize(shown[:rows], (rows, *shapes[key]))
                if kind is bool:
                    value = np.arange(rows) % 1000 == (999 if key == "timeouts" else -1)
                dataset[start : start + rows] = value


def measure(layout: str, path: pathlib.Path, repeats: int) -> list[dict]:
    """Times both readers in turns; returns a row for each, ratios in the second."""
    samples = {name: [] for name in _READERS}
    for _ in tqdm(range(repeats), desc=f"read {layout}"):
        for name, read in _READERS.items():
            command = [sys.executable, "-c", _SCRIPT.format(read=read), str(path)]
            words = subprocess.run(command, capture_output=True, check=True).stdout
            samples[name].append([float(word) for word in words.split()])
    rows = []
    for name, values in samples.items():
        median = [statistics.median(column) for column in zip(*values, strict=True)]
        row = {"layout": layout, "reader": name, "samples": values}
        names = ("seconds", "peak_bytes", "array_bytes")
        rows.append(row | dict(zip(names, median, strict=True)))
    raw, ours = rows
    ours["time_ratio"] = ours["seconds"] / raw["seconds"]
    ours["memory_ratio"] = ours["peak_bytes"] / ours["array_bytes"]
    return rows
