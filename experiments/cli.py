"""Runs an absl main so that bad input is one line on stderr and exit status 2."""

import sys
from collections.abc import Callable

from absl import app

from sas_jax.errors import UserError


def run(main: Callable[[list[str]], object]) -> None:
    """Runs `main` under absl; `UserError` becomes one line and exit status 2."""

    def guarded(argv):
        if len(argv) > 1:
            print(f"error: unexpected argument {argv[1]!r}; use --flag=value", file=sys.stderr)
            sys.exit(2)
        try:
            main(argv)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted; run the same command again to resume", file=sys.stderr)
            sys.exit(130)

    app.run(guarded)
