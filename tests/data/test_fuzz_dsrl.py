"""Hundreds of damaged files: each loads correctly or is refused in one line.

They are read in a process of their own with little memory and a time limit, so that a
crash, a hang or a gigantic allocation is seen as such.
"""

import collections
import json
import pathlib
import resource
import subprocess
import sys
import time
import warnings

import h5py
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = 420
SPARE_MEMORY = 512 << 20
KEYS = (
    "observations",
    "next_observations",
    "actions",
    "rewards",
    "costs",
    "terminals",
    "timeouts",
)


def arrays() -> dict[str, np.ndarray]:
    """A good file: three episodes of PointGoal1, 40 steps."""
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(41, 60)).astype(np.float32)
    ends = np.isin(np.arange(40), [9, 24, 39])
    return {
        "observations": observations[:-1],
        "next_observations": observations[1:],
        "actions": rng.uniform(-1, 1, (40, 2)).astype(np.float32),
        "rewards": rng.normal(size=40).astype(np.float32),
        "costs": rng.integers(0, 2, 40).astype(np.float32),
        "terminals": np.zeros(40, bool),
        "timeouts": ends,
    }


def write(path, content, rng):
    """Writes arrays, in one of the layouts that files come in."""
    layout = [{}, {"chunks": True}, {"chunks": True, "compression": "gzip"}]
    with h5py.File(path, "w") as file:
        file.attrs["task"] = np.bytes_("PointGoal1")
        for key, value in content.items():
            options = layout[rng.integers(3)] if np.ndim(value) else {}
            file.create_dataset(key, data=value, **options)


def any_key(rng):
    return KEYS[rng.integers(len(KEYS))]


def missing(path, rng):
    content = arrays()
    for _ in range(rng.integers(1, 4)):
        content.pop(any_key(rng), None)
    write(path, content, rng)


def other_type(path, rng):
    content, key = arrays(), any_key(rng)
    kinds = ["f2", "f8", "i1", "i8", "u4", "c8", "S3", "bool", "V4"]
    kind = kinds[rng.integers(len(kinds))]
    if kind == "V4":
        content[key] = content[key].astype("f4").view("V4")
    elif kind == "S3":
        content[key] = content[key].astype("f4").astype("S3")
    else:
        content[key] = content[key].astype(kind)
    write(path, content, rng)


def ragged(path, rng):
    """Variable-length rows, and compound ones."""
    content, key = arrays(), any_key(rng)
    value = content.pop(key)
    write(path, content, rng)
    with h5py.File(path, "a") as file:
        if rng.random() < 0.5:
            file.create_dataset(key, (40,), h5py.vlen_dtype(np.float32))
        else:
            pair = np.zeros(len(value), [("a", "f4"), ("b", "f4")])
            file.create_dataset(key, data=pair)


def other_length(path, rng):
    content, key = arrays(), any_key(rng)
    length = int(rng.integers(0, 60))
    content[key] = np.resize(content[key], (length, *content[key].shape[1:]))
    write(path, content, rng)


def other_shape(path, rng):
    content, key = arrays(), any_key(rng)
    value = content[key]
    content[key] = [value.T, value[..., None], value.ravel(), value[0], value[:, None]][
        rng.integers(5)
    ]
    write(path, content, rng)


def not_finite(path, rng):
    content, key = arrays(), KEYS[rng.integers(5)]
    value = content[key].copy()
    value.flat[rng.integers(value.size)] = [np.nan, np.inf, -np.inf][rng.integers(3)]
    content[key] = value
    write(path, content, rng)


def odd_flags(path, rng):
    content = arrays()
    flags = rng.integers(-1, 3, 40) * (rng.random(40) < 0.2)
    content[KEYS[rng.integers(5, 7)]] = flags.astype(
        ["i4", "f4", "i8"][rng.integers(3)]
    )
    write(path, content, rng)


def other_object(path, rng):
    """A group, a link or a named type where an array should be."""
    content, key = arrays(), any_key(rng)
    del content[key]
    write(path, content, rng)
    with h5py.File(path, "a") as file:
        kind = rng.integers(5)
        if kind == 0:
            file.create_group(key)
        elif kind == 1:
            file[key] = h5py.SoftLink("/nowhere")
        elif kind == 2:
            file[key] = h5py.ExternalLink("/etc/passwd", "/x")
        elif kind == 3:
            file[key] = np.dtype("f4")
        else:
            file.create_dataset(key, data=h5py.Empty("f4"))


def gigantic(path, rng):
    """Shapes that claim up to exabytes, with little or nothing stored."""
    content, key = arrays(), any_key(rng)
    value = content.pop(key)
    write(path, content, rng)
    rows = 10 ** int(rng.integers(6, 15))
    options = [
        {},
        {"chunks": (40, *value.shape[1:])},
        {"chunks": (40, *value.shape[1:]), "compression": "gzip"},
        {"chunks": (40, *value.shape[1:]), "fillvalue": 1},
    ][rng.integers(4)]
    with h5py.File(path, "a") as file:
        claim = file.create_dataset(
            key, (rows, *value.shape[1:]), value.dtype, **options
        )
        if "chunks" in options:
            claim[:40] = value


def wide(path, rng):
    """All keys agree on a gigantic number of steps."""
    rows = 10 ** int(rng.integers(7, 13))
    with h5py.File(path, "w") as file:
        file.attrs["task"] = np.bytes_("PointGoal1")
        for key, value in arrays().items():
            shape = (rows, *value.shape[1:])
            file.create_dataset(key, shape, value.dtype, chunks=(40, *shape[1:]))


def virtual(path, rng):
    content, key = arrays(), any_key(rng)
    value = content.pop(key)
    write(path, content, rng)
    with h5py.File(path, "a") as file:
        if rng.random() < 0.5:
            layout = h5py.VirtualLayout(value.shape, value.dtype)
            layout[:] = h5py.VirtualSource(str(path), "rewards", value.shape)
            file.create_virtual_dataset(key, layout)
        else:
            outside = [(str(path), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset(key, value.shape, value.dtype, external=outside)


def attribute(path, rng):
    write(path, arrays(), rng)
    with h5py.File(path, "a") as file:
        texts = [b"PointGaol1", b"\xff\xfe", b"CarGoal1", b" "]
        values = [3, "PointGoal1", np.zeros(5), h5py.Empty("f"), *map(np.bytes_, texts)]
        file.attrs["task"] = values[rng.integers(len(values))]


def truncated(path, rng):
    write(path, arrays(), rng)
    content = path.read_bytes()
    path.write_bytes(content[: rng.integers(len(content))])


def flipped(path, rng):
    """Bytes changed anywhere: headers, trees, heaps, compressed data."""
    write(path, arrays(), rng)
    content = bytearray(path.read_bytes())
    for place in rng.integers(0, len(content), rng.integers(1, 12)):
        content[place] = rng.integers(256)
    path.write_bytes(bytes(content))


def zeroed(path, rng):
    """A hole, as after a crash of the machine that wrote the file."""
    write(path, arrays(), rng)
    content = bytearray(path.read_bytes())
    start = int(rng.integers(len(content)))
    end = min(len(content), start + int(rng.integers(1, 4096)))
    content[start:end] = bytes(end - start)
    path.write_bytes(bytes(content))


def nonsense(path, rng):
    start = [b"", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"][rng.integers(3)]
    path.write_bytes(start + rng.bytes(int(rng.integers(0, 3000))))


MUTATIONS = (
    missing,
    other_type,
    ragged,
    other_length,
    other_shape,
    not_finite,
    odd_flags,
    other_object,
    gigantic,
    wide,
    virtual,
    attribute,
    truncated,
    flipped,
    zeroed,
    nonsense,
)


def outcome(path):
    """``"loaded"``, ``"refused"``, or what else happened."""
    from sas_jax.data import dsrl
    from sas_jax.errors import UserError

    start = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dsrl.DataWarning)
            data = dsrl.load(path)
        dsrl.read_columns(path)
    except UserError as error:
        result = "refused" if "\n" not in str(error) else f"two lines: {error}"
    except Exception as error:
        result = f"{type(error).__name__}: {error}"
    else:
        finite = all(
            np.isfinite(array).all()
            for array in (data.observations, data.actions, data.rewards, data.costs)
        )
        is_sound = finite and data.num_episodes > 0 and data.num_steps <= 40
        result = "loaded" if is_sound else "loaded nonsense"
    seconds = time.monotonic() - start
    return result if seconds < 5 else f"took {seconds:.0f} s"


def main(folder: str, count: int) -> None:
    """Makes and reads files; prints after each what came of it."""
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * 4096
    outcome(pathlib.Path(folder) / "absent")  # imports everything
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_MEMORY,) * 2)
    for number in range(count):
        mutate = MUTATIONS[number % len(MUTATIONS)]
        path = pathlib.Path(folder) / f"{mutate.__name__}_{number}.hdf5"
        mutate(path, np.random.default_rng([number]))
        print(json.dumps([path.name, outcome(path)]), flush=True)
        path.unlink()


@pytest.mark.slow
def test_damaged_files_load_or_are_refused(tmp_path):
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path), str(FILES)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (results[-1:], done.stderr[-2000:])
    assert len(results) == FILES >= 300
    bad = [pair for pair in results if pair[1] not in ("loaded", "refused")]
    assert not bad
    # The mutations do both: most files are refused, some are only unusual.
    counts = collections.Counter(result for _, result in results)
    assert counts["refused"] > 0.6 * FILES and counts["loaded"] > 0.05 * FILES


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
