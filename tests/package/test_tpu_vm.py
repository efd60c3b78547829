"""The launch script for TPU VMs, against a gcloud that only records its calls."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = ["--name=sas", "--zone=us-central2-b"]
TRAIN = "--command=train --data=gs://b/pg1.hdf5 --workdir='gs://b/a run'"

# Records its arguments and a copy of what it is to send, and answers from a file.
GCLOUD = """#!{python}
import json, pathlib, shutil, sys
here = pathlib.Path({here!r})
calls = here / "calls.json"
known = json.loads(calls.read_text()) if calls.exists() else []
calls.write_text(json.dumps(known + [sys.argv[1:]]))
if "scp" in sys.argv and sys.argv[5].endswith(".gz"):
    shutil.copy(sys.argv[5], here / "sent.tar.gz")
answer = json.loads((here / "answer.json").read_text())
if "describe" in sys.argv:
    if answer is None:
        sys.exit("ERROR: (gcloud) NOT_FOUND: no such node")
    print(json.dumps(answer))
elif "fails" in str(answer) and "ssh" in sys.argv:
    sys.exit(3)
"""


@pytest.fixture
def cloud(tmp_path):
    """Runs the script; gives its result and the calls of gcloud."""
    (tmp_path / "gcloud").write_text(
        GCLOUD.format(python=sys.executable, here=str(tmp_path))
    )
    os.chmod(tmp_path / "gcloud", 0o755)

    def run(*flags, answer=None):
        (tmp_path / "answer.json").write_text(json.dumps(answer))
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = subprocess.run(
            [sys.executable, "scripts/tpu_vm.py", *NAMED, *flags],
            cwd=ROOT,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
        )
        calls = tmp_path / "calls.json"
        known = json.loads(calls.read_text()) if calls.exists() else []
        assert all(call[:3] == ["compute", "tpus", "tpu-vm"] for call in known)
        return done, [call[3:] for call in known]

    return run


def test_one_command_creates_sets_up_and_runs_on_all_hosts(cloud, tmp_path):
    flags = ["--type=v4-32", "--hosts", "--spot", "--project=p", TRAIN]
    done, calls = cloud(*flags)
    assert done.returncode == 0, done.stderr
    assert [call[0] for call in calls] == ["describe", "create", "scp", "ssh", "ssh"]
    place = ["--zone=us-central2-b", "--project=p"]
    assert all(set(place) <= set(call) for call in calls)
    assert {"--accelerator-type=v4-32", "--spot"} <= set(calls[1])
    for call in calls[2:]:
        assert "--worker=all" in call
    assert "make setup EXTRA=tpu" in calls[3][-1]
    # A path with a space is one argument there, too.
    start = "experiments.train --data=gs://b/pg1.hdf5 '--workdir=gs://b/a run' --hosts"
    assert start in calls[4][-1]
    with tarfile.open(tmp_path / "sent.tar.gz") as sent:
        assert {"Makefile", "sas_jax/__init__.py"} <= set(sent.getnames())


def test_what_runs_there_is_a_shell_command(cloud):
    _, calls = cloud("--hosts", TRAIN)
    for call in calls:
        if call[0] == "ssh":
            command = call[-1].removeprefix("--command=")
            subprocess.run(["bash", "-n", "-c", command], check=True)


def test_machines_that_are_there_are_used(cloud):
    done, calls = cloud("--action=create", answer={"state": "READY"})
    assert done.returncode == 0 and [call[0] for call in calls] == ["describe"]


def test_preempted_machines_are_made_anew(cloud):
    _, calls = cloud("--action=create", answer={"state": "PREEMPTED"})
    assert [call[0] for call in calls] == ["describe", "delete", "create"]
    assert "--quiet" in calls[1]


def test_hosts_of_a_pod_become_a_ray_cluster(cloud):
    points = [{"ipAddress": "10.0.0.1"}, {"ipAddress": "10.0.0.2"}]
    sweep = "--command=sweep --plan=p.toml --engine=ray --cluster=auto"
    flags = ["--action=run", "--ray", sweep]
    _, calls = cloud(*flags, answer={"networkEndpoints": points})
    head, other, command = (call for call in calls if call[0] == "ssh")
    assert "--worker=0" in head and "start --head --port=6379" in head[-1]
    assert "--worker=1" in other and "--address=10.0.0.1:6379" in other[-1]
    assert "--worker=0" in command and "--engine=ray" in command[-1]


def test_results_are_fetched_from_the_first_host(cloud, tmp_path):
    _, calls = cloud("--action=fetch", f"--pull={tmp_path.name}_x/runs", answer={})
    assert calls[0][:2] == ["scp", "--recurse"] and "--worker=0" in calls[0]
    assert calls[0][2] == f"sas:sas_jax/{tmp_path.name}_x/runs"
    (ROOT / f"{tmp_path.name}_x").rmdir()


def test_nothing_is_called_in_a_dry_run(cloud):
    done, calls = cloud("--dry_run", TRAIN)
    assert done.returncode == 0 and calls == []
    assert done.stdout.count("gcloud compute tpus tpu-vm") == 5


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--command="], "--command: expected an entry point"),
        (["--command=trian"], "there is no experiments.trian"),
        (["--name=", TRAIN], "--name: expected one"),
        (["--hosts", "--ray", TRAIN], "expected one of them"),
    ],
)
def test_bad_flags_are_one_line_and_no_call(cloud, flags, words):
    done, calls = cloud(*flags)
    assert done.returncode == 2 and calls == []
    assert words in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_call_that_fails_is_one_line(cloud):
    answer = {"state": "READY", "fails": True}
    done, _ = cloud(TRAIN, answer=answer)
    assert done.returncode == 2 and "ended with 3" in done.stderr
    done, _ = cloud("--action=create", answer={"state": "CREATING"})
    assert done.returncode == 2 and "is CREATING; expected READY" in done.stderr
