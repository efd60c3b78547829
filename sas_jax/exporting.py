"""A trained policy as a file that JAX alone can run: no code of this package needed.

The file is a ZIP archive of two programs, serialised by `jax.export`, and what they
read. ``begin.bin`` starts episodes (and imagines, and chooses prompts); ``act.bin``
makes one step. Both take and return flat lists of arrays; ``about.json`` says which.
"""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from sas_jax.api import LoadedPolicy, targets_of
from sas_jax.config import Number
from sas_jax.errors import UserError
from sas_jax.files import atomic
from sas_jax.types import Key, Rows, TimeStep

FORMAT = 1
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def export_policy(
    loaded: LoadedPolicy,
    out: str | Path,
    *,
    episodes: int = 1,
    target_return: float | None = None,
    cost_limit: float | None = None,
    seed: int = 0,
    platforms: tuple[str, ...] | None = None,
) -> Path:
    """Writes a policy's two programs for a fixed number of episodes side by side.

    ``begin(variables, obs [B, O], episode seeds [B] uint32, target returns [B], cost
    limits [B]) -> memory``; ``act(variables, memory, obs, reward [B], cost [B],
    is_first [B] bool) -> (action [B, A], memory)``. The programs hold `seed`.

    Args:
      loaded: what `load_policy` returned, for one variant.
      out: the file, whole or not at all.
      episodes: B. target_return, cost_limit: what about.json recommends; None means the
        checkpoint's own. seed: base of every draw.
      platforms: such as ``("cpu", "cuda")``; None means the present one.

    Returns:
      The file's path.

    Raises:
      UserError: a number that makes no sense, a platform that JAX does not know, a
        policy that calls functions of the host, the extra `export` is not installed, or
        a file that cannot be written.
    """
    if problem := Number(least=1, whole=True).problem(episodes):
        raise UserError(f"episodes {problem}, got {episodes!r}")
    if unknown := set(platforms or ()) - set(PLATFORMS):
        raise UserError(
            f"platforms: {', '.join(sorted(unknown))}; expected some of "
            f"{', '.join(PLATFORMS)}"
        )
    targets = targets_of(loaded, target_return, cost_limit)
    programs = _programs(loaded, episodes, jax.random.key(seed), platforms)
    leaves = jax.tree.leaves(loaded.variables)
    about = {
        "format": FORMAT,
        "task": loaded.config.task,
        "algo": loaded.config.algo,
        "episodes": episodes,
        "obs_dim": loaded.spec.obs_dim,
        "action_dim": loaded.spec.action_dim,
        "target_return": targets[0],
        "cost_limit": targets[1],
        "variables": len(leaves),
    }
    with atomic.replacing(out) as temporary, zipfile.ZipFile(temporary, "w") as file:
        for name, program in programs.items():
            file.writestr(f"{name}.bin", program)
        buffer = io.BytesIO()
        arrays = {f"{n:04d}": np.asarray(x) for n, x in enumerate(leaves)}
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        file.writestr("variables.npz", buffer.getvalue())
        file.writestr("about.json", json.dumps(about, indent=1))
    return Path(out)


def _programs(
    loaded: LoadedPolicy, episodes: int, key: Key, platforms: tuple[str, ...] | None
) -> dict[str, bytes]:
    """The serialised programs `begin` and `act`, which take plain arrays only."""
    policy, spec = loaded.policy, loaded.spec
    leaves, tree = jax.tree.flatten(loaded.variables)

    def begin(variables, obs, seeds, returns, limits):
        variables = jax.tree.unflatten(tree, variables)
        rows = Rows(cost_limit=limits, episode_seed=seeds, target_return=returns)
        zeros = jnp.zeros(episodes)
        first = TimeStep(obs, zeros, zeros, jnp.ones(episodes, bool))
        carry = policy.initial_carry(variables, rows, key)
        return policy.begin(variables, carry, first, key)

    def like(*shape, dtype=np.float32):
        return jax.ShapeDtypeStruct(shape, dtype)

    count = (episodes,)
    obs = like(episodes, spec.obs_dim)
    shapes = [jax.ShapeDtypeStruct(np.shape(x), x.dtype) for x in leaves]
    started = (shapes, obs, like(*count, dtype=np.uint32), like(*count), like(*count))
    carry, carry_tree = jax.tree.flatten(jax.eval_shape(begin, *started))
    kinds = [jnp.issubdtype(x.dtype, jax.dtypes.prng_key) for x in carry]

    def begin_plain(*arguments):
        return _plain(begin(*arguments))

    memory = jax.eval_shape(begin_plain, *started)

    def act(variables, memory, obs, reward, cost, is_first):
        variables = jax.tree.unflatten(tree, variables)
        carry = jax.tree.unflatten(carry_tree, _keyed(memory, kinds))
        now = TimeStep(obs, reward, cost, is_first)
        action, carry = policy.act(variables, carry, now, key)
        return action, _plain(carry)

    made = (shapes, memory, obs, like(*count), like(*count), like(*count, dtype=bool))
    return {
        "begin": _serialised(begin_plain, started, platforms),
        "act": _serialised(act, made, platforms),
    }


def _serialised(
    function: Callable[..., Any], arguments: tuple, platforms: tuple[str, ...] | None
) -> bytes:
    """A function's program for arguments of these shapes."""
    try:
        program = export.export(jax.jit(function), platforms=platforms)(*arguments)
        return bytes(program.serialize())
    except ImportError as error:
        raise UserError(
            f"the policy cannot be exported ({error}); expected the extra [export]"
        ) from error
    except (ValueError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"the policy cannot be exported ({reason})") from error


def _plain(tree: Any) -> list[jax.Array]:
    """Leaves as plain arrays: keys of random streams as their numbers."""
    return [
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        for x in map(jnp.asarray, jax.tree.leaves(tree))
    ]


def _keyed(leaves: list[jax.Array], kinds: list[bool]) -> list[Any]:
    """Inverse of `_plain`; kinds: which leaves are keys."""
    pairs = zip(leaves, kinds, strict=True)
    return [jax.random.wrap_key_data(x) if is_key else x for x, is_key in pairs]
