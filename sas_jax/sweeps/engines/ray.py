"""Cells as tasks of a Ray cluster: a laptop, a GPU cluster, a TPU pod or Kubernetes.

All nodes must see the sweep's folder and have the package installed. A task whose node
is lost is begun again elsewhere and goes on from its last checkpoint there.
"""

import dataclasses
from collections.abc import Generator, Sequence
from typing import Any

from sas_jax.envs.vector import cluster
from sas_jax.sweeps import run_cell
from sas_jax.sweeps.engines.engine import Ended, Resources
from sas_jax.sweeps.run_cell import Job

_LOOK = 1.0  # seconds between two looks


def run(
    jobs: Sequence[Job], resources: Resources
) -> Generator[Ended | None, None, None]:
    """Runs jobs as tasks with declared resources. See `engine.Engine`.

    Joins the cluster that `resources.address` names ("auto" for the one that this
    machine belongs to), or the one that the program has joined before; without either,
    Ray is started here.

    Raises:
      UserError: Ray is not installed, or there is no such cluster.
    """
    ray = cluster.imported()
    is_ours = cluster.join(ray, resources.address)
    cores = resources.cores or 1
    declare = ray.remote(
        num_cpus=cores,
        num_gpus=resources.gpus,
        resources={"TPU": resources.tpus} if resources.tpus else None,
        max_retries=resources.retries,
        # JAX holds what it has taken until its process ends.
        max_calls=1,
    )
    task = declare(run_cell.run)
    waiting = list(enumerate(jobs))[::-1]
    running: dict[Any, int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < (resources.cells or len(jobs)):
                index, job = waiting.pop()
                job = dataclasses.replace(job, workers=max(int(cores), 1))
                running[task.remote(job.to_json())] = index
            ended, _ = ray.wait(list(running), timeout=_LOOK)
            yield None
            for reference in ended:
                yield Ended(running.pop(reference), _answer(ray, reference))
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        if is_ours:
            ray.shutdown()


def _answer(ray: Any, reference: Any) -> str:
    """What a task said, or why it said nothing."""
    try:
        return str(ray.get(reference))
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[:200]
        return f"its Ray task ended with {type(error).__name__}: {reason}"
