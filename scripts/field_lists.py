"""A griffe extension: fields that a docstring describes become a list on the API pages.

Docstrings here describe fields as `name: text` lines in a paragraph, which Markdown
would run together.
"""

import re

import griffe

_FIELD = re.compile(r"^(\*?\w+(?:[,/] ?\*?\w+)*): (?=\S)")


def with_lists(text: str) -> str:
    """The docstring, each paragraph that begins with a field as a list."""
    return "\n\n".join(_paragraph(part) for part in text.split("\n\n"))


def _paragraph(text: str) -> str:
    lines = text.splitlines()
    if not lines or not _FIELD.match(lines[0]):
        return text
    out = []
    for line in lines:
        field = _FIELD.match(line)
        if field:
            out.append(f"- `{field[1]}`: {line[field.end() :]}")
        else:
            out.append(f"    {line.strip()}")
    return "\n".join(out)


class FieldLists(griffe.Extension):
    """Rewrites every docstring that is collected."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        """Called once an object and its docstring are there."""
        del kwargs
        if obj.docstring:
            obj.docstring.value = with_lists(obj.docstring.value)
