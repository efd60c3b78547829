"""A bucket of Google's storage in memory, for all three clients that reach it.

TensorStore, which writes Orbax's arrays, speaks HTTP with a server here; `etils.epath`
asks fsspec for a file system; Orbax asks Google's own client one question. The content
is one dict, so each sees what the others wrote.
"""

import contextlib
import http.server
import importlib
import io
import itertools
import json
import os
import sys
import threading
import types
import urllib.parse

import fsspec
from fsspec.spec import AbstractFileSystem

# "bucket/name" -> (content, generation). A name that ends in / is an empty folder.
CONTENT: dict[str, tuple[bytes, int]] = {}
_generation = itertools.count(1)


def put(key: str, content: bytes) -> int:
    """Stores an object and returns its generation."""
    CONTENT[key] = content, next(_generation)
    return CONTENT[key][1]


class _Api(http.server.BaseHTTPRequestHandler):
    """The part of Google's JSON API that TensorStore uses."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Nothing on stderr."""

    def _reply(self, code, body=b"", headers=()):
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _asked(self):
        """Key (or bucket and "" for a list) and query."""
        url = urllib.parse.urlsplit(self.path)
        _, _, rest = url.path.partition("/b/")
        bucket, _, name = rest.partition("/o")
        query = dict(urllib.parse.parse_qsl(url.query))
        return bucket, urllib.parse.unquote(name.strip("/")), query

    def _describe(self, key):
        content, generation = CONTENT[key]
        name = key.partition("/")[2]
        return {"name": name, "size": str(len(content)), "generation": str(generation)}

    def do_GET(self):
        bucket, name, query = self._asked()
        if not name:
            start = f"{bucket}/{query.get('prefix', '')}"
            found = [self._describe(k) for k in sorted(CONTENT) if k.startswith(start)]
            return self._reply(200, json.dumps({"items": found}).encode())
        if f"{bucket}/{name}" not in CONTENT:
            return self._reply(404, b"{}")
        content, generation = CONTENT[f"{bucket}/{name}"]
        headers = [("x-goog-generation", str(generation))]
        if wanted := self.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start = int(first) if first else len(content) - int(last)
            end = min(int(last) + 1, len(content)) if first and last else len(content)
            place = f"bytes {start}-{end - 1}/{len(content)}"
            headers.append(("Content-Range", place))
            return self._reply(206, content[start:end], headers)
        return self._reply(200, content, headers)

    def do_POST(self):
        bucket, _, query = self._asked()
        key = f"{bucket}/{query['name']}"
        content = self.rfile.read(int(self.headers["Content-Length"]))
        known = CONTENT.get(key, (b"", 0))[1]
        if int(query.get("ifGenerationMatch", known)) != known:
            return self._reply(412, b"{}")
        put(key, content)
        return self._reply(200, json.dumps(self._describe(key)).encode())

    def do_DELETE(self):
        bucket, name, _ = self._asked()
        found = CONTENT.pop(f"{bucket}/{name}", None)
        return self._reply(204 if found else 404, b"")


class _Written(io.BytesIO):
    """Becomes an object when it is closed."""

    def __init__(self, key):
        super().__init__()
        self._key = key

    def close(self):
        if not self.closed:
            put(self._key, self.getvalue())
        super().close()


class BucketFileSystem(AbstractFileSystem):
    """What gcsfs offers, as far as epath and Orbax use it."""

    protocol = ("gcs", "gs")
    cachable = False

    @classmethod
    def _strip_protocol(cls, path):
        return os.fspath(path).removeprefix("gs://").removeprefix("gcs://").rstrip("/")

    def info(self, path, **_):
        path = self._strip_protocol(path)
        if path in CONTENT:
            return {"name": path, "size": len(CONTENT[path][0]), "type": "file"}
        if "/" in path and not any(key.startswith(f"{path}/") for key in CONTENT):
            raise FileNotFoundError(path)
        return {"name": path, "size": 0, "type": "directory"}

    def ls(self, path, detail=True, **_):
        path = self._strip_protocol(path)
        if self.info(path)["type"] == "file":
            return [self.info(path)] if detail else [path]
        inside = (
            k.removeprefix(f"{path}/") for k in CONTENT if k.startswith(f"{path}/")
        )
        names = sorted({f"{path}/{name.split('/')[0]}" for name in inside if name})
        return [self.info(name) for name in names] if detail else names

    def _open(self, path, mode="rb", **_):
        path = self._strip_protocol(path)
        if mode == "wb":
            return _Written(path)
        if path not in CONTENT:
            raise FileNotFoundError(path)
        return io.BytesIO(CONTENT[path][0])

    def mkdir(self, path, create_parents=True, **_):
        put(f"{self._strip_protocol(path)}/", b"")

    def makedirs(self, path, exist_ok=False):
        self.mkdir(path)

    def rm(self, path, recursive=False, maxdepth=None):
        path = self._strip_protocol(path)
        for key in [k for k in CONTENT if k == path or k.startswith(f"{path}/")]:
            del CONTENT[key]

    def rm_file(self, path):
        self.rm(path)

    def rmdir(self, path):
        self.rm(path)

    def mv(self, path1, path2, **_):
        old, new = self._strip_protocol(path1), self._strip_protocol(path2)
        for key in [k for k in CONTENT if k == old or k.startswith(f"{old}/")]:
            CONTENT[new + key.removeprefix(old)] = CONTENT.pop(key)


class _Client:
    """Google's: a bucket whose folders are but names."""

    def get_bucket(self, name):
        return types.SimpleNamespace(name=name)


@contextlib.contextmanager
def serving():
    """Puts the bucket behind all clients while the block lasts. TensorStore reads where
    the server is only once in a process, so there can be one block in each.
    """
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["TENSORSTORE_GCS_HTTP_URL"] = f"http://127.0.0.1:{server.server_port}"
    os.environ["GOOGLE_AUTH_TOKEN_FOR_TESTING"] = "none"
    for name in BucketFileSystem.protocol:
        fsspec.register_implementation(name, BucketFileSystem, clobber=True)
    google = importlib.import_module("google")
    storage = types.ModuleType("google.cloud.storage")
    storage.Client = _Client
    cloud = types.ModuleType("google.cloud")
    google.cloud, cloud.storage = cloud, storage
    sys.modules |= {"google.cloud": cloud, "google.cloud.storage": storage}
    try:
        yield CONTENT
    finally:
        server.shutdown()
