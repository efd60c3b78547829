"""The console command `sas-jax`: the entry points as subcommands, with their flags."""

import os
import runpy
import sys
from pathlib import Path

# Name -> what it does, in the order in which one comes to need them.
COMMANDS = {
    "watch": "one layout played and drawn, by a policy that comes with the package",
    "demo": "the whole way on one task: collect, train, align, evaluate, report",
    "collect": "record episodes of a task",
    "convert": "offline data of one kind as another",
    "inspect": "a page about a data set, or the checkpoints of a run",
    "train": "train an algorithm on offline data",
    "card": "measure a world-model card",
    "critic": "fit the cost critic of a checkpoint",
    "asking": "fit which return to ask for under a budget",
    "support": "fit where the data are, for plans that keep to them",
    "evaluate": "run a checkpoint's policy under variants and thresholds",
    "sweep": "tasks x methods x training seeds: trained, evaluated, one table",
    "report": "a page of results, in Markdown and HTML",
    "plot": "tables and the return-cost figure of results",
    "follow_tokens": "how far a policy follows its return and cost tokens",
    "candidates": "what plans' candidates promise, and bring in the environment",
    "true_world": "plans whose candidates are tried out in the real environment",
    "foretell": "whether cost critics and state-wise prices foretell a cost",
    "search_targets": "which tokens to ask a policy for, by few real episodes, safely",
    "ceiling": "what perfect dynamics would predict of costs",
    "sensitivity": "which sensors a policy leans on, here and in changed worlds",
    "shifts": "a policy in changed worlds, by levels, and in the worst that is found",
    "bandit": "which variant to deploy when others choose the world",
    "worlds": "the positive control of prompts, on data of two worlds",
    "export": "a policy as a file that JAX alone runs",
    "pack": "a checkpoint's policy as one small file",
    "reproduce": "tables of the paper from a sweep, figures on a checkpoint",
    "ladder": "how steadily SAC to SAC-ALaM learn, and what their prices know",
    "collect_table": "what the scripted behaviours reach, by task",
}


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: sas-jax COMMAND [--flag=value ...]",
            "",
            *lines,
            "",
            "sas-jax COMMAND --help shows a command's flags.",
        ]
    )


def _find_experiments() -> bool:
    """Puts the entry points on the path: beside the package, or within the wheel."""
    here = Path(__file__).resolve().parent
    for folder in (here.parent, here / "_commands"):
        if (folder / "experiments" / "cli.py").is_file():
            sys.path.insert(0, str(folder))
            return True
    return False


def main() -> None:
    """Runs a subcommand as `python -m experiments.NAME` would."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("help", "-h", "--help"):
        print(_usage())
        sys.exit(0)
    if arguments[0] == "--version":
        import sas_jax

        print(sas_jax.__version__)
        sys.exit(0)
    name = arguments[0].replace("-", "_")
    if name not in COMMANDS:
        from sas_jax.errors import nearest

        known = f"expected one of {', '.join(COMMANDS)}"
        print(
            f"error: no command {arguments[0]!r}{nearest(name, COMMANDS)} ({known})",
            file=sys.stderr,
        )
        sys.exit(2)
    if not _find_experiments():
        print(
            "error: this installation has no entry points; expected a checkout or a "
            "wheel of sas_jax",
            file=sys.stderr,
        )
        sys.exit(2)
    # As `python -m` has it: what lies in the present folder can be imported.
    sys.path.append(os.getcwd())
    sys.argv = [f"sas-jax {name}", *arguments[1:]]
    runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
