"""What sweeps took, as the rates by which others are estimated before they begin.

python -m experiments.benchmarks.sweep_rates --tables=sweep.csv,cdt.csv \
    --machine="a 2-core Intel Xeon VM, one core a cell"

tables: of experiments.sweep, their JSON beside them. Written into the package.
"""

import collections
import json
from pathlib import Path

from absl import flags

from experiments import cli
from sas_jax.errors import UserError
from sas_jax.files import atomic, results
from sas_jax.sweeps import estimate
from sas_jax.sweeps.table import CELL, read_records

_TABLES = flags.DEFINE_list("tables", None, "CSV files of sweeps.")
_MACHINE = flags.DEFINE_string("machine", None, "In words.")
_OUT = cli.define_path("out", "sas_jax/sweeps/rates.json", "The rates.")


def main(argv):
    """Reads, averages, writes."""
    del argv
    if not _TABLES.value or not _MACHINE.value:
        raise UserError("--tables and --machine: expected both")
    found = collections.defaultdict(list)
    for path in map(Path, _TABLES.value):
        rows = collections.defaultdict(list)
        for row in results.read_results(path):
            rows[row.extra.get(CELL)].append(row)
        for name, record in read_records(path.with_suffix(".json"))[0].items():
            for kin, rate in estimate.rates_of(estimate.counted(record, rows[name])):
                found[kin].append(rate)
    rates = [[kin, round(sum(x) / len(x), 5)] for kin, x in sorted(found.items())]
    text = ",\n".join(json.dumps(x) for x in rates)
    machine = json.dumps(_MACHINE.value)
    atomic.write_text(_OUT.value, f'{{"machine": {machine}, "rates": [\n{text}\n]}}\n')
    print(f"{len(rates)} rates in {_OUT.value}")


if __name__ == "__main__":
    cli.run(main)
