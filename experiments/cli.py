"""Runs an absl main so that bad input is one line on stderr and exit status 2."""

import logging
import sys
import warnings
from collections.abc import Callable

from absl import app, flags

from sas_jax.errors import UserError


def _fail(message: object) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _one_line(message, category, filename, lineno, line=None) -> str:
    """Our own warnings without the place in the code that they come from."""
    if category.__module__.startswith("sas_jax"):
        return f"warning: {message}\n"
    return _format_warning(message, category, filename, lineno, line)


_format_warning = warnings.formatwarning


def _parse(argv: list[str]) -> list[str]:
    """Parses flags as absl does, with errors in our form."""
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        _fail(" ".join(str(error).split()))


def run(main: Callable[[list[str]], object]) -> None:
    """Runs `main` under absl; `UserError` becomes one line and exit status 2."""

    def guarded(argv):
        # JAX tells at level INFO of every accelerator that is not there.
        logging.getLogger("jax._src.xla_bridge").setLevel(logging.WARNING)
        warnings.formatwarning = _one_line
        if len(argv) > 1:
            _fail(f"unexpected argument {argv[1]!r}; use --flag=value")
        try:
            main(argv)
        except UserError as error:
            _fail(error)
        except KeyboardInterrupt:
            print("interrupted; run the same command again to resume", file=sys.stderr)
            sys.exit(130)

    app.run(guarded, flags_parser=_parse)
