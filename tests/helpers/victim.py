"""Training runs that are killed in the middle, as a power cut would."""

import os
import signal
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_SCRIPT = """
import sys, time
from {module} import {config}, {lengths}
from sas_jax.training import fit
from tests.helpers.model_fixtures import make_episodes

def progress(step, total, metrics):
    print(step, flush=True)
    if step >= {step}:
        time.sleep(60)

fit.fit({config}, make_episodes({lengths}), sys.argv[1], progress=progress)
"""


def killed_at(step: int, workdir: Path, *, module: str, config="CONFIG") -> None:
    """Trains `module`'s configuration in a process of its own and kills it (-9).

    module: dotted name of a test module with the configuration and LENGTHS, those of
    its episodes. step: at whose report the process dies.
    """
    script = _SCRIPT.format(module=module, config=config, lengths="LENGTHS", step=step)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(workdir)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(_ROOT)},
        cwd=_ROOT,
    ) as process:
        try:
            for line in process.stdout:
                if int(line) >= step:
                    break
        finally:
            process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
