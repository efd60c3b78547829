"""Reading DSRL files: our checking reader against raw h5py, time and peak memory.

python -m experiments.benchmarks.data --steps=2000000

Each reading happens in a fresh process, so that peak memory is its own; the two readers
take turns and medians are reported. Raw h5py reads the seven arrays and does nothing
else; ours checks every value and keeps what is needed. The files are made up, of
PointGoal1's sizes, one compressed as DSRL's are and one not at all.
"""

import pathlib
import tempfile

from absl import flags

from experiments import cli
from experiments.benchmarks import data_timing, results
from sas_jax.errors import UserError

_STEPS = flags.DEFINE_integer("steps", 2_000_000, "Steps of the made-up file.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Readings of each kind.")
_OUT = cli.define_path("out", "runs/bench/data.json", "Where the numbers go.")


def main(_):
    """Measures, prints the table and writes it as JSON."""
    if _STEPS.value < 1000 or _REPEATS.value < 1:
        raise UserError("--steps must be at least 1000 and --repeats at least 1")
    rows = []
    out = pathlib.Path(_OUT.value)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        for layout in data_timing.LAYOUTS:
            path = pathlib.Path(folder) / f"{layout}.hdf5"
            data_timing.write_file(path, _STEPS.value, layout)
            rows += data_timing.measure(layout, path, _REPEATS.value)
            path.unlink()
    print(_table(rows))
    settings = {"steps": _STEPS.value, "repeats": _REPEATS.value}
    results.write_json(out, settings, {"rows": rows})
    print(f"written to {out}")


def _table(rows: list[dict]) -> str:
    lines = [f"{'layout':12}{'reader':10}{'seconds':>9}{'arrays MB':>11}{'peak MB':>9}"]
    for row in rows:
        sizes = f"{row['array_bytes'] / 1e6:11.0f}{row['peak_bytes'] / 1e6:9.0f}"
        lines.append(
            f"{row['layout']:12}{row['reader']:10}{row['seconds']:9.2f}{sizes}"
        )
        if "time_ratio" in row:
            lines[-1] += f"   x{row['time_ratio']:.2f} the time of raw h5py,"
            lines[-1] += f" peak x{row['memory_ratio']:.2f} the arrays"
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(main)
