"""Cells as jobs of a Slurm cluster, by way of submitit.

All nodes must see the sweep's folder and have the package installed. A job that Slurm
preempts, or whose minutes are over, is queued again and goes on from its checkpoint.
"""

import dataclasses
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from sas_jax.errors import UserError
from sas_jax.sweeps import run_cell
from sas_jax.sweeps.engines.engine import Ended, Resources
from sas_jax.sweeps.run_cell import Job

_LOOK = 1.0  # seconds between two looks; submitit asks Slurm itself less often


class Cell:
    """What a job calls: `run_cell.run`, which may be begun again at any time."""

    def __call__(self, values: dict[str, Any]) -> str:
        """Runs the job."""
        return run_cell.run(values)

    def checkpoint(self, values: dict[str, Any]) -> Any:
        """Queues the same again; submitit calls this before the job is taken away."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, values)


def run(
    jobs: Sequence[Job], resources: Resources
) -> Generator[Ended | None, None, None]:
    """Queues all jobs and waits for them. See `engine.Engine`.

    `resources.address` names submitit's executor: "" asks Slurm, "local" runs processes
    of this machine. What the queue needs besides (a partition, an account) comes from
    Slurm's own variables, such as SBATCH_PARTITION.

    Raises:
      UserError: submitit is not installed, or there is no Slurm here.
    """
    if not jobs:
        return
    cores = max(int(resources.cores), 1)
    executor = _executor(jobs, resources, cores)
    queued: dict[int, Any] = {}
    for index, job in enumerate(jobs):
        job = dataclasses.replace(job, workers=cores)
        queued[index] = executor.submit(Cell(), job.to_json())
    try:
        while queued:
            yield None
            time.sleep(_LOOK)
            for index, job in list(queued.items()):
                if job.done():
                    del queued[index]
                    yield Ended(index, _answer(job))
    finally:
        for job in queued.values():
            job.cancel()


def _executor(jobs: Sequence[Job], resources: Resources, cores: int) -> Any:
    """The executor; its own files lie beside the cells' folders."""
    try:
        import submitit
    except ImportError as error:
        raise UserError(
            "engine slurm: submitit is not installed; expected the extra: "
            "pip install '.[slurm]'"
        ) from error
    folder = Path(jobs[0].folder).parent.parent / "slurm"
    try:
        executor = submitit.AutoExecutor(folder, cluster=resources.address or "slurm")
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"engine slurm: {' '.join(str(error).split())}; expected a machine that "
            "can call sbatch, or --cluster=local"
        ) from error
    executor.update_parameters(
        name="sweep",
        timeout_min=resources.minutes,
        cpus_per_task=cores,
        gpus_per_node=int(resources.gpus),
    )
    if resources.cells:
        executor.update_parameters(slurm_array_parallelism=resources.cells)
    return executor


def _answer(job: Any) -> str:
    """What a job said, or how it ended."""
    try:
        return str(job.result())
    except Exception as error:  # submitit raises many kinds for a job's end
        reason = " ".join(str(error).split())[:200]
        return f"its Slurm job {job.job_id} ended with {type(error).__name__}: {reason}"
