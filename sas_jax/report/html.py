"""A report page as one HTML file with its pictures inside.

Reads the Markdown that this package writes, and no more of it: headings, paragraphs,
lists, tables, fences, pictures, links, code, bold and italic words.
"""

import base64
import html
import os
import re
from pathlib import Path

from sas_jax.errors import UserError
from sas_jax.files import atomic

_TYPES = {".png": "image/png", ".gif": "image/gif", ".svg": "image/svg+xml"}
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem; color: #222; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .7rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; }
code, pre { background: #f4f4f4; border-radius: 3px; padding: .1rem .3rem; }
pre { padding: .7rem; overflow-x: auto; }
"""


def write_html(markdown: str | os.PathLike, out: str | os.PathLike) -> Path:
    """Writes a Markdown page as HTML, whole or not at all; returns its path.

    Args:
      markdown: the page; pictures are found relative to it. out: the HTML file.

    Raises:
      UserError: a picture of the page cannot be read.
    """
    page = Path(markdown)
    text = page.read_text(encoding="utf-8")
    title = re.search(r"^# (.*)$", text, re.M)
    body = "\n".join(_block(block, page.parent) for block in _blocks(text))
    document = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{html.escape(title[1] if title else page.stem)}</title>\n"
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
    return atomic.write_text(out, document)


def _blocks(text: str) -> list[list[str]]:
    """Lines between empty ones; a fence is one block, whatever stands in it."""
    blocks: list[list[str]] = [[]]
    is_fenced = False
    for line in text.splitlines():
        is_mark = line.startswith("```")
        if is_mark and not is_fenced:
            blocks.append([line])
        elif is_fenced or line.strip():
            blocks[-1].append(line)
        if (is_mark and is_fenced) or (not line.strip() and not is_fenced):
            blocks.append([])
        is_fenced ^= is_mark
    return [block for block in blocks if block]


def _block(lines: list[str], folder: Path) -> str:
    """One block as an element."""
    first = lines[0]
    if first.startswith("```"):
        inside = lines[1:-1] if lines[-1].startswith("```") else lines[1:]
        return f"<pre><code>{html.escape(chr(10).join(inside))}</code></pre>"
    if heading := re.match(r"(#{1,6}) (.*)", first):
        level = len(heading[1])
        found = f"<h{level}>{_inline(heading[2], folder)}</h{level}>"
        rest = f"\n{_block(lines[1:], folder)}" if lines[1:] else ""
        return found + rest
    if first.startswith("|"):
        return _table(lines, folder)
    if first.startswith("- "):
        items = re.split(r"^- ", "\n".join(lines), flags=re.M)[1:]
        inside = "\n".join(f"<li>{_inline(item, folder)}</li>" for item in items)
        return f"<ul>\n{inside}\n</ul>"
    return f"<p>{_inline(' '.join(lines), folder)}</p>"


def _table(lines: list[str], folder: Path) -> str:
    """A table; its second line, the marks of alignment, is left out."""
    rows = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in lines]
    text = []
    for number, row in enumerate(rows):
        if number == 1:
            continue
        tag = "th" if number == 0 else "td"
        cells = (_inline(c.strip().replace(r"\|", "|"), folder) for c in row)
        text.append("<tr>" + "".join(f"<{tag}>{c}</{tag}>" for c in cells) + "</tr>")
    return "<table>\n" + "\n".join(text) + "\n</table>"


def _inline(text: str, folder: Path) -> str:
    """Code, pictures, links, bold and italic words within a line."""
    kept: list[str] = []

    def keep(element: str) -> str:
        kept.append(element)
        return f"\0{len(kept) - 1}\0"

    text = re.sub(
        r"`([^`]+)`", lambda m: keep(f"<code>{html.escape(m[1])}</code>"), text
    )
    text = re.sub(
        r"!\[([^\]]*)\]\(<?([^)>]+)>?\)",
        lambda m: keep(_picture(m[1], folder / m[2])),
        text,
    )
    text = re.sub(
        r"\[([^\]]*)\]\(<?([^)>]+)>?\)",
        lambda m: keep(f'<a href="{html.escape(m[2])}">{html.escape(m[1])}</a>'),
        text,
    )
    text = html.escape(text, quote=False)
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    text = re.sub(r"(?<!\w)\*(\S(?:.*?\S)?)\*(?!\w)", r"<em>\1</em>", text)
    return re.sub("\0(\\d+)\0", lambda m: kept[int(m[1])], text)


def _picture(words: str, path: Path) -> str:
    """The picture's bytes as part of the page."""
    try:
        data = base64.b64encode(path.read_bytes()).decode()
        kind = _TYPES[path.suffix.lower()]
    except (OSError, KeyError) as error:
        reason = getattr(error, "strerror", None) or "of an unknown kind"
        raise UserError(f"{path}: cannot be put into the page ({reason})") from error
    return f'<img alt="{html.escape(words)}" src="data:{kind};base64,{data}">'
