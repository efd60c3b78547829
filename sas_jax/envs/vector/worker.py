"""The process that runs environments for `VectorEnv`. Numpy and a simulator, no JAX.

It is started by path, ``python worker.py '<json>'``, so that the interpreter may be
another one, with other pins, than the parent's. It serves messages until its pipe
closes or its parent is gone.
"""

import json
import pathlib
import signal
import sys


class Worker:
    """Environments of some slots, driven by messages.

    In the shape descriptions A is the action size.
    """

    def __init__(self, make, slots, shared, index: int):
        """make: () -> environment. slots: slot numbers served. index: own number."""
        self._shared = shared
        self._index = index
        self._envs = {}
        for slot in slots:
            self._note(slot)
            self._envs[slot] = make()

    def reset(self) -> None:
        """Starts the episode `seeds[slot]` in every masked slot."""
        for slot in self._envs:
            if self._shared.mask[slot]:
                self._begin(slot, int(self._shared.seeds[slot]))

    def step(self) -> None:
        """Steps every masked slot by its row of `actions`."""
        for slot in self._envs:
            if self._shared.mask[slot]:
                self._advance(slot, self._shared.actions[slot])

    def replay(self, payload: bytes) -> None:
        """Runs episodes again from their seeds and actions, up to where they were.

        payload: JSON line ``[[slot, seed, number of actions], ...]``, then the actions
        of all of them, `[sum, A]` float64.
        """
        import numpy as np

        header, _, body = payload.partition(b"\n")
        size = self._shared.actions.shape[1]
        actions = np.frombuffer(body, np.float64).reshape(-1, size)
        for slot, seed, count in json.loads(header):
            self._begin(slot, seed)
            for action in actions[:count]:
                self._advance(slot, action)
            actions = actions[count:]

    def layout(self, slot: int) -> dict[str, list]:
        """The slot's things as lists of ``[x, y, radius]``."""
        layout = self._envs[slot].layout()
        return {name: rows.tolist() for name, rows in layout.items()}

    def _note(self, slot):
        """Tells the parent what is being worked at, and that work goes on."""
        self._shared.busy[self._index] = slot
        self._shared.beats[self._index] += 1

    def _begin(self, slot, seed):
        self._note(slot)
        observation = self._envs[slot].reset(seed)
        self._publish(slot, observation, 0.0, 0.0, False, False)

    def _advance(self, slot, action):
        self._note(slot)
        observation, reward, cost, terminated, truncated = self._envs[slot].step(action)
        ended = terminated or truncated
        self._publish(slot, observation, reward, cost, terminated, ended)

    def _publish(self, slot, observation, reward, cost, terminated, ended):
        shared = self._shared
        shared.observations[slot] = observation
        shared.rewards[slot] = reward
        shared.costs[slot] = cost
        shared.terminated[slot] = terminated
        shared.ended[slot] = ended
        shared.poses[slot] = self._envs[slot].pose()


def started(config: dict, slots) -> Worker:
    """The worker of a configuration (see `serve`) on `SharedSlots`."""
    from sas_jax.envs import imports
    from sas_jax.envs import make as makers
    from sas_jax.envs import shift as shifts

    making = config["making"] | {"shift": shifts.Shift(**config["making"]["shift"])}
    sys.path += [folder for folder in config["path"] if folder not in sys.path]
    imports.import_modules(config["imports"])
    makers.register_in_worker(config["registered"])
    return Worker(
        lambda: makers.make(config["task"], **making),
        config["slots"],
        slots,
        config["index"],
    )


def done(worker: Worker, kind: bytes, payload: bytes) -> bytes:
    """The answer to a request, once it is done."""
    from sas_jax.envs.vector import shared

    if kind == shared.RESET:
        result = worker.reset()
    elif kind == shared.STEP:
        result = worker.step()
    elif kind == shared.REPLAY:
        result = worker.replay(payload)
    else:
        result = worker.layout(int(payload))
    return json.dumps(result).encode()


def told(error: Exception) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def serve(config: dict) -> None:
    """Answers messages; EOFError when the parent has closed its end.

    config: task, making (arguments of `make`), slots, index, num_envs, num_workers,
    obs_dim, action_dim, registered (see `make.registration`), imports (modules, see
    `imports`), path (folders to import from besides), the descriptors commands, replies
    and memory, and the parent's process id.
    """
    from sas_jax.envs.vector import shared

    commands, replies = config["commands"], config["replies"]
    slots = shared.SharedSlots(
        config["num_envs"],
        config["num_workers"],
        config["obs_dim"],
        config["action_dim"],
        fd=config["memory"],
    )

    def answer(action):
        try:
            shared.send(replies, shared.OK, action())
        except BrokenPipeError:
            raise SystemExit(0) from None
        except Exception as error:  # reported to the parent, whose user it concerns
            shared.send(replies, shared.FAILED, told(error).encode())

    worker = None

    def start():
        nonlocal worker
        worker = started(config, slots)
        return b""

    shared.exit_with(config["parent"])
    answer(start)
    while True:
        kind, payload = shared.receive(commands)
        answer(lambda kind=kind, payload=payload: done(worker, kind, payload))


def main() -> None:
    """Entry point of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # see `process.Process`
    try:
        serve(json.loads(sys.argv[1]))
    except (EOFError, BrokenPipeError):
        pass  # the parent has closed its end


if __name__ == "__main__":
    # Started by path: put the package's root, not its folder, on the import path.
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[3])
    main()
