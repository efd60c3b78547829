"""Modules of the user's own that register tasks, policies or learners: `--import`.

Worker processes import the same ones, under their own interpreter.
"""

import importlib
import os
import sys
from collections.abc import Iterable

from sas_jax.envs.suites.notices import without_adroit_notice
from sas_jax.errors import UserError

# What has been imported, in order.
MODULES: list[str] = []


def import_modules(names: Iterable[str]) -> None:
    """Imports modules by name, from the present folder as well.

    Raises:
      UserError: no such module, or it fails while it is imported.
    """
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)
    for name in names:
        try:
            with without_adroit_notice():
                importlib.import_module(name)
        except UserError as error:
            raise UserError(f"module {name!r}: {error}") from error
        except Exception as error:  # whatever the user's code does
            raise UserError(
                f"module {name!r} cannot be imported ({type(error).__name__}: "
                f"{' '.join(str(error).split())}); expected a module in this folder or "
                "on $PYTHONPATH"
            ) from error
        if name not in MODULES:
            MODULES.append(name)


def function(name: str, what: str):
    """The function that ``"module:function"`` names.

    what: what it is for, for messages.

    Raises:
      UserError: another form, no such module or function.
    """
    module, _, attribute = str(name).partition(":")
    if not (module and attribute.isidentifier()):
        raise UserError(f"{what} {name!r}: expected 'module:function'")
    import_modules([module])
    found = getattr(sys.modules[module], attribute, None)
    if not callable(found):
        raise UserError(
            f"{what} {name!r}: module {module!r} has no function {attribute!r}"
        )
    return found
