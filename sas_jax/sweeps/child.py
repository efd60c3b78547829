"""The process that the local engine starts for a cell.

python -m sas_jax.sweeps.child, with one line on standard input: the cores that it may
use and its job, as JSON. It answers with one line, what failed. When its standard input
ends it ends: no cell outlives its sweep.
"""

import json
import os
import sys
import threading


def _end_with(stream) -> None:
    """Ends this process when `stream` does: then its sweep is gone."""
    while stream.read(1):
        pass
    os._exit(1)


def main() -> None:
    """Runs the job."""
    asked = json.loads(sys.stdin.readline())
    if asked["cores"] and hasattr(os, "sched_setaffinity"):
        # Before JAX counts them for its threads.
        os.sched_setaffinity(0, asked["cores"])
    threading.Thread(target=_end_with, args=(sys.stdin,), daemon=True).start()
    # Whatever prints goes to the log; the answer is this module's own.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from sas_jax.sweeps import run_cell

    print(json.dumps(run_cell.run(asked["job"])), file=answer, flush=True)


if __name__ == "__main__":
    main()
