"""A griffe extension: what a docstring says of fields becomes a list on the API pages.

Docstrings here describe fields and arguments as `name: text`, several to a paragraph
and sometimes several to a line. Markdown would run them together.
"""

import re
from collections.abc import Iterable, Iterator

import griffe

_NAME = r"\*?\w+"
_FIELD = re.compile(rf"^({_NAME}(?:(?:, | and | x |/){_NAME})*): (?=\S)")
_NEXT = re.compile(rf"(?<=[.;]) ({_NAME}(?:, {_NAME})*): (?=\S)")
_SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Warns|Attributes):$")


def with_lists(text: str, names: Iterable[str] = ()) -> str:
    """The docstring, each field on a line of its own and in a list.

    names: of the fields or arguments; only these are split off within a line.
    """
    known, out = set(names), []
    for paragraph in text.split("\n\n"):
        lines = paragraph.splitlines()
        if lines and _SECTION.match(lines[0]):
            out.append("\n".join(_section(lines, known)))
        elif lines and _FIELD.match(lines[0]):
            out.append("\n".join(_fields(lines, known)))
        else:
            out.append(paragraph)
    return "\n\n".join(out)


def _split(line: str, known: set[str]) -> list[str]:
    """`line`, cut before each known name that a sentence in it begins with."""
    cuts = [
        match.start(1)
        for match in _NEXT.finditer(line)
        if set(match[1].split(", ")) <= known
    ]
    bounds = zip([0, *cuts], [*cuts, len(line)], strict=True)
    return [line[start:end].rstrip() for start, end in bounds]


def _section(lines: list[str], known: set[str]) -> list[str]:
    """A section such as Args: its items stand one indentation in."""
    out, indent = lines[:1], ""
    for line in lines[1:]:
        indent = indent or line[: len(line) - len(line.lstrip())]
        first, *others = _split(line, known)
        out += [first, *(indent + other for other in others)]
    return out


def _fields(lines: list[str], known: set[str]) -> list[str]:
    out = []
    for line in lines:
        for part in _split(line, known):
            field = _FIELD.match(part)
            if field:
                out.append(f"- `{field[1]}`: {part[field.end() :]}")
            else:
                out.append(f"    {part.strip()}")
    return out


def _all_of(obj: griffe.Object) -> Iterator[griffe.Object]:
    yield obj
    for member in obj.members.values():
        if not member.is_alias:
            yield from _all_of(member)


class FieldLists(griffe.Extension):
    """Rewrites every docstring of a package that was collected."""

    def on_package(self, *, pkg: griffe.Module, **kwargs) -> None:
        """Called once all of the package is there."""
        del kwargs
        for obj in _all_of(pkg):
            if obj.docstring:
                names = [p.name for p in obj.parameters] if obj.is_function else ()
                obj.docstring.value = with_lists(
                    obj.docstring.value, names or obj.members
                )
