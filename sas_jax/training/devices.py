"""Where arrays of a training run live: one device, a mesh of them, or several hosts.

Only a batch's rows are spread; parameters and data are whole on every device. The
program is the one for a single device, with marks where its arrays lie, so that losses
and gradients are those of the whole batch. No draw depends on the number of devices
(JAX's threefry is partitionable): results differ by the order of sums alone.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sas_jax.errors import UserError

_AXIS = "data"


def start_hosts(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins this process to the others; call before anything else uses JAX.

    Without arguments the cluster is asked (TPU VMs, Slurm, Open MPI).

    Args:
      coordinator_address: "host:port" of process 0.
      num_processes: how many there are. process_id: which one this is, from 0.

    Raises:
      UserError: only some arguments given, a process_id out of range, or no cluster.
    """
    given = [x is not None for x in (coordinator_address, num_processes, process_id)]
    if any(given) and not all(given):
        raise UserError(
            "hosts: expected coordinator_address, num_processes and process_id "
            "together, or none of them where the cluster tells"
        )
    if all(given) and not 0 <= process_id < num_processes:
        raise UserError(
            f"hosts: process_id {process_id}; expected 0 to {num_processes - 1}"
        )
    # Without effect where there is an accelerator.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(coordinator_address, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UserError(
            f"hosts: {reason}; expected a coordinator that every process reaches"
        ) from error


def is_first_host() -> bool:
    """Whether this process is the one that writes logs and shows progress."""
    return jax.process_index() == 0


def make_mesh(count: int, rows: int, accumulate: int = 1) -> Mesh | None:
    """The devices that a batch is spread over; None means one, without any marks.

    Args:
      count: how many devices; 0 means all, of all hosts.
      rows: of a batch. accumulate: parts that a batch is worked off in.

    Raises:
      UserError: more devices than there are, some of several hosts' only, or rows that
        cannot be dealt out evenly.
    """
    devices = jax.devices()
    wanted = count or len(devices)
    if wanted > len(devices):
        raise UserError(f"train.devices {count}: there are {len(devices)}")
    if jax.process_count() > 1 and wanted != len(devices):
        raise UserError(
            f"train.devices {count}: with {jax.process_count()} hosts expected 0 (all "
            f"{len(devices)} devices)"
        )
    if rows % (wanted * accumulate):
        parts = f" x train.accumulate {accumulate}" if accumulate > 1 else ""
        raise UserError(
            f"train.batch_rows {rows}: expected a multiple of the number of devices, "
            f"{wanted}{parts}"
        )
    return Mesh(np.asarray(devices[:wanted]), (_AXIS,)) if wanted > 1 else None


def whole(mesh: Mesh | None) -> NamedSharding | None:
    """Sharding of what every device holds whole; None without a mesh."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec())


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """Copies of this process's arrays on every device; unchanged without a mesh.

    With several hosts each must hold the same values.
    """
    if mesh is None:
        return tree
    sharding = whole(mesh)

    def put(x):
        if jax.process_count() == 1:
            return jax.device_put(x, sharding)
        values = np.asarray(x)
        return jax.make_array_from_callback(
            values.shape, sharding, lambda index: values[index]
        )

    return jax.tree.map(put, tree)


def spread_rows(batch: Any, mesh: Mesh | None) -> Any:
    """Marks, inside jit, that the leading axis of a batch's arrays is spread."""
    if mesh is None:
        return batch
    rows = NamedSharding(mesh, PartitionSpec(_AXIS))
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, rows), batch)


def on_one_device(tree: Any, mesh: Mesh | None) -> Any:
    """This process's copy of arrays that every device holds whole."""
    if mesh is None:
        return tree

    def take(x):
        if not jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return x.addressable_data(0)
        data = jax.random.key_data(x).addressable_data(0)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))

    return jax.tree.map(take, tree)
