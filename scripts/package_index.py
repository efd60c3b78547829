"""Fetches one pinned wheel from a package index with the standard library alone.

For the one machine on which nothing else can: no pip, no ensurepip, no uv. The index
is the one pip is configured for; no address is built in. The page format is PEP 503's,
which every index and mirror serves.
"""

import configparser
import contextlib
import hashlib
import html.parser
import os
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import NamedTuple

TIMEOUT_SECONDS = 60

# Settings of a user's pip that would send packages elsewhere or ask questions.
PIP_ENV = {
    "PIP_USER": "0",
    "PIP_REQUIRE_VIRTUALENV": "0",
    "PIP_NO_INPUT": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_PROGRESS_BAR": "off",
}


class FetchError(Exception):
    """A wheel cannot be had. The message is one line."""


class Pin(NamedTuple):
    """One requirement of a hash-checked requirements file."""

    name: str
    version: str
    hashes: frozenset[str]  # sha256, hex


def read_pin(path: Path) -> Pin:
    """Returns the single requirement `name==version --hash=...` in the file `path`."""
    text = path.read_text()
    name, version = re.search(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE).groups()
    return Pin(name, version, frozenset(re.findall(r"--hash=sha256:(\w{64})", text)))


def configured_index() -> str | None:
    """Returns the index-url of pip's environment variable or files, in pip's order."""
    if os.environ.get("PIP_INDEX_URL"):
        return os.environ["PIP_INDEX_URL"]
    home = Path.home()
    config_home = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [config_home / "pip/pip.conf", home / ".pip/pip.conf", "/etc/pip.conf"]
    if os.environ.get("PIP_CONFIG_FILE"):
        files.insert(0, os.environ["PIP_CONFIG_FILE"])
    for file in files:
        parser = configparser.RawConfigParser()
        with contextlib.suppress(configparser.Error, UnicodeDecodeError):
            parser.read(file)
        for section in ("install", "global"):
            url = parser.get(section, "index-url", fallback=None)
            if url:
                return url.strip()
    return None


class _Links(html.parser.HTMLParser):
    """Collects the href of every link of an index page."""

    def __init__(self, page: str):
        super().__init__()
        self.hrefs: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        """Called by the parser for each opening tag."""
        if tag == "a":
            self.hrefs += [value for key, value in attrs if key == "href" and value]


def fetch_wheel(pin_file: Path, folder: Path) -> Path:
    """Downloads the pure-Python wheel pinned in `pin_file` into `folder`.

    Raises:
        FetchError: no index is configured, it cannot be reached, lacks the wheel, or
            its file does not have one of the pinned hashes. Nothing is written then.
    """
    pin = read_pin(pin_file)
    filename = f"{pin.name}-{pin.version}-py3-none-any.whl"
    wheel = folder / filename
    if wheel.exists() and hashlib.sha256(wheel.read_bytes()).hexdigest() in pin.hashes:
        return wheel
    index = configured_index()
    if index is None:
        raise FetchError(
            "this Python has neither pip nor ensurepip, and there is no uv: install "
            "one (Debian: apt install python3-venv), or set PIP_INDEX_URL to an index"
        )
    page_url = f"{index.rstrip('/')}/{pin.name}/"
    for href in _Links(_get(page_url).decode()).hrefs:
        url = urllib.parse.urljoin(page_url, href)
        if urllib.parse.urlsplit(url).path.endswith("/" + filename):
            content = _get(url)
            break
    else:
        raise FetchError(f"{page_url} lists no {filename}")
    if hashlib.sha256(content).hexdigest() not in pin.hashes:
        raise FetchError(f"{filename} does not match its hash in {pin_file.name}")
    partial = wheel.with_suffix(".partial")
    partial.write_bytes(content)
    os.replace(partial, wheel)
    return wheel


def _get(url: str) -> bytes:
    """Returns what `url` holds; one line on failure."""
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
    try:
        request = urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS, context=context)
        with request as response:
            return response.read()
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise FetchError(f"cannot read {url} ({reason}); check the network") from error
