"""What the vector environment and its workers share: memory for numbers, pipe messages.

The memory is one anonymous block that workers inherit as a file descriptor. It has no
name, so nothing is left behind however the processes end. A message is an operation,
a length and a small JSON text or bytes; observations and actions never travel in one.
"""

import mmap
import os
import struct
import tempfile
import threading
import time

import numpy as np

from sas_jax.envs.interface import POSE_SIZE

_HEADER = struct.Struct("<cI")
_ALIGNMENT = 64  # a cache line
_ORPHAN_CHECK_SECONDS = 1.0

READY, OK, FAILED, BEAT = b"R", b"K", b"E", b"B"  # worker -> parent
RESET, STEP, REPLAY, LAYOUT = b"r", b"s", b"p", b"l"  # parent -> worker


class SharedSlots:
    """Arrays over all slots (environments), in one block of shared memory.

    B slots, W workers, O observation size, A action size. The parent writes `seeds`
    `[B]`, `mask` `[B]` (which slots a request is about) and `actions` `[B, A]`; the
    worker that owns a slot writes the rest: `observations` `[B, O]` float32, `rewards`
    and `costs` `[B]` float64, `terminated` and `ended` `[B]` bool, `poses` `[B, 6]`
    float64, into `busy` `[W]` the slot at hand, which tells the parent whose episode
    a dead worker was running, and into `beats` `[W]` how many resets and steps it has
    begun, which tells a long request from a hanging worker.
    """

    seeds: np.ndarray
    mask: np.ndarray
    actions: np.ndarray
    observations: np.ndarray
    rewards: np.ndarray
    costs: np.ndarray
    terminated: np.ndarray
    ended: np.ndarray
    poses: np.ndarray
    busy: np.ndarray
    beats: np.ndarray

    def __init__(
        self,
        num_envs: int,
        num_workers: int,
        obs_dim: int,
        action_dim: int,
        *,
        fd: int | None = None,
    ):
        """Allocates the block, or attaches to the one behind `fd`."""
        fields = {
            "seeds": (np.int64, (num_envs,)),
            "mask": (np.bool_, (num_envs,)),
            "actions": (np.float64, (num_envs, action_dim)),
            "observations": (np.float32, (num_envs, obs_dim)),
            "rewards": (np.float64, (num_envs,)),
            "costs": (np.float64, (num_envs,)),
            "terminated": (np.bool_, (num_envs,)),
            "ended": (np.bool_, (num_envs,)),
            "poses": (np.float64, (num_envs, POSE_SIZE)),
            "busy": (np.int64, (num_workers,)),
            "beats": (np.int64, (num_workers,)),
        }
        offsets, size = {}, 0
        for name, (dtype, shape) in fields.items():
            offsets[name] = size
            nbytes = int(np.dtype(dtype).itemsize * np.prod(shape))
            size += -(-nbytes // _ALIGNMENT) * _ALIGNMENT
        self.fd = _anonymous_file(size) if fd is None else fd
        self._memory = mmap.mmap(self.fd, size)
        for name, (dtype, shape) in fields.items():
            array = np.ndarray(shape, dtype, self._memory, offsets[name])
            setattr(self, name, array)


def exit_with(parent: int) -> None:
    """Ends this process soon after process `parent` is gone, whatever it is doing.

    A thread watches: the closing of a pipe is noticed only between two requests, and
    not at all if another process has inherited the parent's end.
    """

    def watch():
        while os.getppid() == parent:
            time.sleep(_ORPHAN_CHECK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _anonymous_file(size: int) -> int:
    """Returns a descriptor of a nameless zero-filled file of `size` bytes."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("sas_jax_slots")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


def send(fd: int, kind: bytes, payload: bytes = b"") -> None:
    """Writes one message.

    Raises:
      BrokenPipeError: the other side is gone.
    """
    rest = memoryview(_HEADER.pack(kind, len(payload)) + payload)
    while rest:
        rest = rest[os.write(fd, rest) :]


def receive(fd: int) -> tuple[bytes, bytes]:
    """Reads one message, blocking. Returns (kind, payload).

    Raises:
      EOFError: the other side is gone.
    """
    kind, length = _HEADER.unpack(_read_exactly(fd, _HEADER.size))
    return kind, _read_exactly(fd, length)


def _read_exactly(fd: int, count: int) -> bytes:
    """Reads `count` bytes."""
    parts = []
    while count:
        part = os.read(fd, min(count, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
