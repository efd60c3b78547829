"""Set-up from nothing: what it downloads, what it says, and what it repairs."""

import functools
import hashlib
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import bootstrap  # noqa: E402
import package_index  # noqa: E402

WHEEL = "tool-1.2-py3-none-any.whl"
CONTENT = b"a wheel, as far as its hash goes"


@pytest.fixture
def no_pip_settings(tmp_path, monkeypatch):
    """No index configured anywhere."""
    for name in ("PIP_INDEX_URL", "PIP_CONFIG_FILE", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config/pip/pip.conf"


@pytest.fixture
def index(tmp_path, no_pip_settings, monkeypatch):
    """A package index on the loopback interface; yields the folder of its files."""
    files = tmp_path / "index/files"
    files.mkdir(parents=True)
    (files / WHEEL).write_bytes(CONTENT)
    page = tmp_path / "index/simple/tool/index.html"
    page.parent.mkdir(parents=True)
    page.write_text(
        "<!DOCTYPE html><a href='../../files/tool-1.1-py3-none-any.whl'>old</a>"
        f"<br/><a data-x='1' href='../../files/{WHEEL}#sha256=0'>{WHEEL}</a>"
    )

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """Says nothing on stderr."""

    handler = functools.partial(Handler, directory=str(tmp_path / "index"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/simple/"
        monkeypatch.setenv("PIP_INDEX_URL", url)
        yield files
        server.shutdown()


def pin_file(folder: Path, content: bytes) -> Path:
    path = folder / "tool.txt"
    sha256 = hashlib.sha256(content).hexdigest()
    path.write_text(f"# made by hand\ntool==1.2 \\\n    --hash=sha256:{sha256}\n")
    return path


def test_committed_pins_can_be_read():
    for name in ("uv", "pip"):
        pin = package_index.read_pin(ROOT / f"requirements/{name}.txt")
        assert pin.name == name
        assert pin.version[0].isdigit()
        assert pin.hashes


def test_wheel_is_fetched_by_relative_link_once(index, tmp_path):
    pin = pin_file(tmp_path, CONTENT)
    wheel = package_index.fetch_wheel(pin, tmp_path)
    assert wheel.name == WHEEL
    assert wheel.read_bytes() == CONTENT
    (index / WHEEL).unlink()
    assert package_index.fetch_wheel(pin, tmp_path) == wheel


def test_wheel_with_another_hash_is_refused(index, tmp_path):
    pin = pin_file(tmp_path, b"what was expected")
    with pytest.raises(package_index.FetchError, match=f"^{WHEEL}.*hash in tool.txt"):
        package_index.fetch_wheel(pin, tmp_path)
    assert not list(tmp_path.glob("*.whl"))
    assert not list(tmp_path.glob("*.partial"))


def test_index_without_the_version_is_named(index, tmp_path):
    pin = pin_file(tmp_path, CONTENT)
    pin.write_text(pin.read_text().replace("==1.2", "==1.3"))
    with pytest.raises(package_index.FetchError, match="/simple/tool/ lists no tool-1"):
        package_index.fetch_wheel(pin, tmp_path)


def test_unreachable_index_is_one_line(tmp_path, no_pip_settings, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(package_index.FetchError) as caught:
        package_index.fetch_wheel(pin_file(tmp_path, CONTENT), tmp_path)
    assert "http://127.0.0.1:9/simple/tool/" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_index_of_pips_settings(no_pip_settings, monkeypatch):
    assert package_index.configured_index() in (None, _site_index())
    no_pip_settings.parent.mkdir(parents=True)
    no_pip_settings.write_text("[global]\nindex-url = https://mirror.invalid/simple\n")
    assert package_index.configured_index() == "https://mirror.invalid/simple"
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    monkeypatch.delenv("UV_INDEX_URL", raising=False)
    assert bootstrap.uv_index() == {"UV_DEFAULT_INDEX": "https://mirror.invalid/simple"}
    monkeypatch.setenv("PIP_INDEX_URL", "https://other.invalid/simple")
    assert package_index.configured_index() == "https://other.invalid/simple"
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://uv.invalid/simple")
    assert bootstrap.uv_index() == {}


def _site_index():
    """The index that the machine's own /etc/pip.conf sets, if any."""
    parser = package_index.configparser.RawConfigParser()
    parser.read("/etc/pip.conf")
    return parser.get("global", "index-url", fallback=None)


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("error: write failed: No space left on device (os error 28)", "disk full"),
        ("  Caused by: dns error: failed to lookup address", "cannot be reached"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "does not match"),
        (
            "note: x\nerror: Unsupported platform\nhint: y",
            "error: Unsupported platform",
        ),
        ("", "no output"),
    ],
)
def test_failed_installer_is_explained_in_one_line(printed, said):
    error = bootstrap.diagnose(printed.splitlines())
    assert said in str(error)
    assert "\n" not in str(error)
    assert isinstance(error, bootstrap.NetworkError) == ("reached" in said)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A checkout of its own for `bootstrap`; yields its folder."""
    root = tmp_path / "project"
    (root / "requirements").mkdir(parents=True)
    (root / "requirements/lock.txt").write_text("a==1\n")
    (root / "pyproject.toml").write_text("[project]\n")
    work = root / ".bootstrap"
    work.mkdir()
    for name, path in {
        "ROOT": root,
        "VENV": root / ".venv",
        "WORK": work,
        "LOG": work / "setup.log",
        "INSTALLING": work / "installing",
        "REQUIREMENTS": root / "requirements",
    }.items():
        monkeypatch.setattr(bootstrap, name, path)
    monkeypatch.setattr(bootstrap, "MIN_FREE_BYTES", 0)
    monkeypatch.setattr(bootstrap, "find_uv", lambda: None)
    return root


class Installer:
    """Stands in for `bootstrap.install`; fails with `error` when that is set."""

    def __init__(self, root: Path):
        self.root = root
        self.error: BaseException | None = None
        self.found: list[list[str]] = []  # what lay in .venv at each call

    def __call__(self, uv, extra=""):
        venv = self.root / ".venv"
        self.found.append(sorted(path.name for path in venv.glob("call*")))
        (venv / "bin").mkdir(parents=True, exist_ok=True)
        if not (venv / "bin/python").exists():
            (venv / "bin/python").symlink_to(sys.executable)
        (venv / f"call{len(self.found)}").touch()
        if self.error:
            raise self.error


@pytest.fixture
def installer(project, monkeypatch):
    stand_in = Installer(project)
    monkeypatch.setattr(bootstrap, "install", stand_in)
    return stand_in


def test_set_up_happens_once_and_again_when_the_lock_changes(project, installer):
    stamp = project / ".venv/.ready"
    bootstrap.set_up(stamp)
    bootstrap.set_up(stamp)
    assert installer.found == [[]]
    (project / "requirements/lock.txt").write_text("a==2\n")
    bootstrap.set_up(stamp)
    assert installer.found == [[], ["call1"]]
    bootstrap.set_up(stamp)
    assert len(installer.found) == 2


def test_killed_set_up_starts_from_an_empty_environment(project, installer):
    stamp = project / ".venv/.ready"
    installer.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        bootstrap.set_up(stamp)
    assert not stamp.exists()
    installer.error = None
    bootstrap.set_up(stamp)
    bootstrap.set_up(stamp)
    assert installer.found == [[], []]
    assert stamp.exists()


def test_lost_network_leaves_the_environment_as_it_was(project, installer):
    stamp = project / ".venv/.ready"
    bootstrap.set_up(stamp)
    (project / "pyproject.toml").write_text("[project]\nname = 'b'\n")
    installer.error = bootstrap.NetworkError("no network")
    with pytest.raises(bootstrap.NetworkError):
        bootstrap.set_up(stamp)
    assert (project / ".venv/call1").exists()
    installer.error = None
    bootstrap.set_up(stamp)
    assert installer.found[-1] == ["call1", "call2"]


def test_full_disk_is_reported_before_anything_is_written(
    project, installer, monkeypatch
):
    monkeypatch.setattr(bootstrap, "MIN_FREE_BYTES", 10**18)
    with pytest.raises(bootstrap.SetupError, match=f"^disk full: .* {project}"):
        bootstrap.set_up(project / ".venv/.ready")
    assert not (project / ".venv").exists()
    assert not installer.found


@pytest.mark.parametrize(
    ("version", "explicit", "line"),
    [
        ("Python 3.13", False, "error: python3 is Python 3.13; install Python 3.11"),
        ("Python 3.9", True, "is Python 3.9; Python 3.11 or 3.12 expected"),
        (None, False, "error: python3 is missing; install Python 3.11 or 3.12"),
    ],
)
def test_unsuitable_python_is_one_line(tmp_path, version, explicit, line):
    """With no Python on PATH but one that reports `version`."""
    for tool in ("sh", "dirname"):
        (tmp_path / tool).symlink_to(f"/bin/{tool}")
    environment = {"PATH": str(tmp_path)}
    if version:
        (tmp_path / "python3").write_text(f"#!/bin/sh\necho '{version}'\n")
        (tmp_path / "python3").chmod(0o755)
    if explicit:
        environment["PYTHON"] = "python3"
    done = subprocess.run(
        ["/bin/sh", ROOT / "scripts/setup.sh"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_make_lists_its_targets():
    done = subprocess.run(
        ["make", "help"], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 0
    for target in ("setup", "test", "demo", "lint", "lock", "clean"):
        assert f"make {target} " in done.stdout


def test_an_extra_is_jax_at_its_locked_version(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    monkeypatch.setattr(bootstrap, "venv_python_version", lambda: (3, 11))
    monkeypatch.setattr(bootstrap, "run", lambda command, **_: commands.append(command))
    monkeypatch.setattr(bootstrap, "uv_index", dict)
    bootstrap.install(Path("uv"), "cuda")
    lock = (ROOT / "requirements/lock.txt").read_text()
    last = str(commands[-1][-1])
    assert last.startswith("jax[cuda12]==")
    assert f"\n{last.replace('[cuda12]', '')} " in lock
    bootstrap.install(Path("uv"))
    assert commands[-1][-1] == bootstrap.ROOT


def test_an_extra_stays_until_another_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    assert bootstrap.chosen_extra("") == ""
    (tmp_path / ".extra").write_text("tpu")
    assert bootstrap.chosen_extra("") == "tpu"
    assert bootstrap.chosen_extra("cuda") == "cuda"
    assert bootstrap.digest("tpu") != bootstrap.digest()
    with pytest.raises(bootstrap.SetupError, match="EXTRA=gpu; expected one of cuda"):
        bootstrap.chosen_extra("gpu")
