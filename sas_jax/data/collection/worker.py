"""The process that records episodes for `data.collect`: numpy and a simulator.

JAX comes in with tasks and policies that need it.
Started by path, ``python worker.py '<json>'``. It records the episodes whose numbers it
is sent, until its pipe closes or its parent is gone. On the way it tells that it gets
on, so that a long episode is not taken for a hanging worker.
"""

import json
import pathlib
import signal
import sys
import time


def serve(config: dict) -> None:
    """Answers messages; EOFError when the parent has closed its end.

    config: the plan's fields, what `make.registration` said of its task, modules and
    folders to import, the folder of parts, the descriptors commands and
    replies, the parent's process id, and the seconds after which it is told of a step.
    """
    from sas_jax.data.behaviours import given
    from sas_jax.data.collection import episode as episodes
    from sas_jax.data.collection.plan import Plan
    from sas_jax.envs import imports
    from sas_jax.envs.make import make, register_in_worker
    from sas_jax.envs.vector import shared
    from sas_jax.errors import UserError

    commands, replies = config["commands"], config["replies"]
    parts, plan = pathlib.Path(config["parts"]), None
    shared.exit_with(config["parent"])

    def answer(action):
        try:
            action()
        except UserError as error:
            shared.send(replies, shared.FAILED, str(error).encode())
        except OSError as error:
            text = f"{parts}: cannot be written ({error.strerror or error})"
            shared.send(replies, shared.FAILED, text.encode())
        except Exception as error:  # reported to the parent, whose user it concerns
            text = " ".join(f"{type(error).__name__}: {error}".split())
            shared.send(replies, shared.FAILED, text.encode())
        else:
            shared.send(replies, shared.OK)

    envs = {}  # by world; most plans have one

    def env_in(world):
        if world not in envs:
            envs[world] = make(plan.task, shift=world)
        return envs[world]

    said = time.monotonic()

    def beat():
        nonlocal said
        if time.monotonic() - said > config["beat"]:
            said = time.monotonic()
            shared.send(replies, shared.BEAT)

    def record(number):
        env = env_in(plan.world(number))
        arrays = episodes.record(env, plan, number, on_step=beat)
        episodes.write_part(parts, number, arrays)

    def begin():
        nonlocal plan
        sys.path.extend(folder for folder in config["path"] if folder not in sys.path)
        imports.import_modules(config["imports"])
        register_in_worker(config["registered"])
        plan = Plan(**config["plan"])
        if plan.policy:
            given.prepare(plan.policy)
        env_in(plan.shift)

    answer(begin)
    while True:
        _, payload = shared.receive(commands)
        answer(lambda payload=payload: record(int(payload)))


def main() -> None:
    """Entry point of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # see `envs.vector.process.Process`
    try:
        serve(json.loads(sys.argv[1]))
    except (EOFError, BrokenPipeError):
        pass  # the parent has closed its end


if __name__ == "__main__":
    # Started by path: put the package's root, not its folder, on the import path.
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[3])
    main()
