"""Ray as it is needed here: imported where it is asked for, and joined."""

from typing import Any

from sas_jax.errors import UserError


def imported() -> Any:
    """The module; UserError where it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "engine ray: Ray is not installed; expected the extra: pip install '.[ray]'"
        ) from error
    return ray


def join(ray: Any, address: str) -> bool:
    """Joins a cluster, or starts Ray here; returns whether it was not joined before.

    address: "auto" for the cluster that this machine belongs to; "" starts Ray here.

    Raises:
      UserError: there is no such cluster.
    """
    if ray.is_initialized():
        return False
    try:
        ray.init(address=address or None, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"engine ray: cannot join {address!r} ({reason})") from error
    return True
