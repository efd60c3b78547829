"""The process of a `BranchingEnv`. Numpy and a simulator, no JAX, so that it may fork.

It is started by path, like the workers of `VectorEnv`, and for the same reasons.
"""

import contextlib
import json
import os
import pathlib
import signal
import sys
from multiprocessing.connection import Connection, Pipe


class Copy:
    """A forked copy of an environment, and the pipe to it."""

    def __init__(self, env, *others: Connection):
        """others: ends of pipes that the copy must not hold open."""
        self.pipe, theirs = Pipe()
        self._pid = os.fork()
        if self._pid:
            theirs.close()
            return
        try:
            for pipe in (self.pipe, *others):
                pipe.close()
            _serve_copy(env, theirs)
        finally:
            os._exit(0)

    def end(self) -> None:
        """Ends the copy."""
        self.pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _serve_copy(env, pipe: Connection) -> None:
    """Steps until the pipe closes; an episode that has ended stays as it is."""
    last = None
    with contextlib.suppress(EOFError, OSError):
        while True:
            action = pipe.recv()
            if last is None or not last[3]:
                last = stepped(env, action)
            else:
                last = (last[0], 0.0, 0.0, True)
            pipe.send(last)


def stepped(env, action) -> tuple:
    """Observation, reward, cost, and whether the episode has ended."""
    obs, reward, cost, terminated, truncated = env.step(action)
    return obs, float(reward), float(cost), bool(terminated or truncated)


class Worker:
    """The real environment and its copies, driven by requests."""

    def __init__(self, env, *pipes: Connection):
        """pipes: to the parent, which copies must not hold open."""
        self._env, self._pipes, self._copies = env, pipes, []

    def reset(self, seed):
        """The first observation of an episode; there are no copies of it yet."""
        self.end_copies()
        return self._env.reset(seed)

    def step(self, action):
        """One step of the real episode."""
        return stepped(self._env, action)

    def branch(self, count):
        """New copies in place of those there are."""
        self.end_copies()
        for _ in range(count):
            held = [copy.pipe for copy in self._copies]
            self._copies.append(Copy(self._env, *self._pipes, *held))

    def attempt(self, actions):
        """One step of every copy; they step at the same time."""
        for copy, action in zip(self._copies, actions, strict=True):
            copy.pipe.send(action)
        try:
            return [copy.pipe.recv() for copy in self._copies]
        except EOFError:
            raise RuntimeError("a copy of the environment has died") from None

    def end_copies(self):
        """Ends all copies."""
        for copy in self._copies:
            copy.end()
        self._copies = []


def serve(config: dict) -> None:
    """Answers requests; EOFError when the other end is closed.

    config: task, registered (see `make.registration`), imports (modules, see
    `imports`), path (folders to import from besides), and the descriptors commands and
    replies.
    """
    from sas_jax.envs import imports
    from sas_jax.envs import make as makers

    commands = Connection(config["commands"], writable=False)
    replies = Connection(config["replies"], readable=False)
    worker = None

    def start():
        nonlocal worker
        sys.path += [f for f in config["path"] if f not in sys.path]
        imports.import_modules(config["imports"])
        makers.register_in_worker(config["registered"])
        worker = Worker(makers.make(config["task"]), commands, replies)

    try:
        while True:
            what, value = commands.recv()
            try:
                call = start if what == "start" else getattr(worker, what)
                answer = True, call() if value is None else call(value)
            except Exception as error:  # told to the parent, whose user it concerns
                text = " ".join(f"{type(error).__name__}: {error}".split())
                answer = False, text.removeprefix("UserError: ")
            replies.send(answer)
    finally:
        if worker is not None:
            worker.end_copies()


def main() -> None:
    """Entry point of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    with contextlib.suppress(EOFError, OSError):
        serve(json.loads(sys.argv[1]))


if __name__ == "__main__":
    # Started by path: put the package's root, not its folder, on the import path.
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[3])
    main()
