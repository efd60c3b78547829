"""Code blocks of Markdown pages, and what must hold of them.

A `python` block is run, statement by statement; where a line ends in `# -> text`, what
the statement printed is compared with the text. A block below `<!-- file: NAME -->` is
saved under that name, too. In a `sh` block every command of this repository must have a
module, flags and settings that exist.
"""

import ast
import contextlib
import dataclasses
import importlib
import importlib.util
import io
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags

from sas_jax.errors import UserError

_FENCE = re.compile(r"^```(\w*)\s*$")
_SLOW = "<!-- slow -->"
_FILE = re.compile(r"^<!-- file: (\w+\.py) -->$")
_EXPECTED = re.compile(r"#\s*->\s*(.*\S)\s*$")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block.

    line: number of its first line of code, from 1. file: name to save it under, or "".
    """

    language: str
    code: str
    line: int
    is_slow: bool = False
    file: str = ""


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order.

    Raises:
      ValueError: a fence that is not closed, or has words after its language.
    """
    found, start, language, mark = [], None, "", ""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is not None:
            if line.strip() != "```":
                raise ValueError(f"line {number + 1}: a fence within a fence")
            code = "\n".join(lines[start:number])
            saved = _FILE.match(mark)
            name = saved[1] if saved else ""
            found.append(Block(language, code, start + 1, mark == _SLOW, name))
            start = None
            continue
        opened = _FENCE.match(line)
        if not opened:
            raise ValueError(f"line {number + 1}: {line!r}; expected ```language")
        before = next((x for x in reversed(lines[:number]) if x.strip()), "")
        start, language, mark = number + 1, opened[1], before.strip()
    if start is not None:
        raise ValueError(f"line {start}: the fence is not closed")
    return found


def run_python(block: Block, namespace: dict) -> None:
    """Runs a block in `namespace`; a file is written into the working folder first.

    Raises:
      AssertionError: a statement printed something else than its line says, or failed.
    """
    if block.file:
        Path(block.file).write_text(block.code + "\n")
    source = block.code.splitlines()
    for statement in ast.parse(block.code).body:
        where = f"line {block.line + statement.lineno - 1}"
        code = compile(ast.Module([statement], []), f"<{where}>", "exec")
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
        except Exception as error:
            raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error
        expected = _EXPECTED.search(source[statement.end_lineno - 1])
        if expected:
            actual = printed.getvalue().strip()
            assert actual == expected[1], (
                f"{where}: {actual!r}; it says {expected[1]!r}"
            )


def commands(code: str) -> list[list[str]]:
    """The commands of a shell block as words, comments and line ends joined."""
    joined = code.replace("\\\n", " ")
    return [words for x in joined.splitlines() if (words := shlex.split(x, True))]


def module_of(words: list[str]) -> str | None:
    """The module that `python -m` runs; None for another command."""
    if Path(words[0]).name.startswith("python") and words[1:2] == ["-m"]:
        return words[2]
    return None


@contextlib.contextmanager
def flags_of(module: str):
    """Imports an entry point anew, with no other module's flags beside its own.

    Yields the flags. Those that were there before come back.
    """
    known = flags.FLAGS
    before = {name: known[name] for name in known if _is_own(known, name)}
    loaded = {name: m for name, m in sys.modules.items() if _is_entry(name)}
    _forget(known, before, loaded)
    try:
        importlib.import_module(module)
        known.mark_as_parsed()
        yield known
    finally:
        own = [name for name in known if _is_own(known, name)]
        _forget(known, own, [name for name in sys.modules if _is_entry(name)])
        for name, flag in before.items():
            known[name] = flag
        sys.modules.update(loaded)


def _forget(known, names, modules):
    for name in names:
        delattr(known, name)
    for name in list(modules):
        del sys.modules[name]


def _is_own(known, name: str) -> bool:
    """Whether an entry point has defined the flag, and not absl.

    Of flags that were taken out and put back, absl no longer knows the module; it knows
    that of its own flags.
    """
    module = known.find_module_defining_flag(name)
    return module is None or _is_entry(module)


def _is_entry(name: str) -> bool:
    return name.split(".")[0] == "experiments"


def fault_of(
    words: list[str], check_settings: Callable[[str, dict, list[str]], None]
) -> str | None:
    """What is wrong with a command of this repository; None where nothing is.

    check_settings: (module, values of all flags, the settings of --set) raises
      UserError for one that does not exist.
    """
    module = module_of(words)
    if module is None or not _is_entry(module):
        return None
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        return f"{module}: no such module"
    entry = f"{module}.__main__" if found.submodule_search_locations else module
    try:
        with flags_of(entry) as known:
            rest = known([module, *words[3:]])
            if len(rest) > 1:
                return f"{module}: unexpected {rest[1]!r}"
            values = {name: known[name].value for name in known}
            check_settings(module, values, values.get("set") or [])
    except (flags.Error, UserError) as error:
        return f"{module}: {error}"
    return None
