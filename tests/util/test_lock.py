"""A folder held while a command runs, and free again however that ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from locties._util.lock import only_process

pytestmark = pytest.mark.usefixtures("signals")


def holding(folder, *command: str) -> subprocess.Popen:
    call = [sys.executable, "-m", "locties._util.lock", str(folder), *command]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_second_command_is_refused_and_a_kill_frees_the_folder(tmp_path):
    folder = tmp_path / "new"
    first = holding(folder, "sh", "-c", "echo begun; exec sleep 60")
    assert first.stdout.readline() == "begun\n"
    second = holding(folder, "sh", "-c", "echo begun")
    out, err = second.communicate()
    assert (second.returncode, out) == (1, "")
    assert f"in use by process {first.pid} on" in err
    with pytest.raises(RuntimeError, match=f"process {first.pid} "), only_process(folder):
        pass
    first.send_signal(signal.SIGHUP)
    assert first.wait(60) == -signal.SIGHUP, "the command goes when its holder goes"
    with only_process(folder):
        pass


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_what_a_killed_command_started_still_holds_the_folder(tmp_path, number):
    first = holding(tmp_path, "sh", "-c", "sleep 60 & echo $!; wait")
    begun = int(first.stdout.readline())
    first.send_signal(number)
    assert first.wait(60) == -number
    refused = holding(tmp_path, "true")
    assert (refused.wait(60), "in use by" in refused.stderr.read()) == (1, True)
    os.kill(begun, signal.SIGKILL)
    for _ in range(100):  # until the system has ended it
        if holding(tmp_path, "true").wait(60) == 0:
            return
    raise AssertionError("the folder is held by nobody, and not free")


@pytest.mark.parametrize("status", [0, 3])
def test_the_status_is_the_commands(tmp_path, status):
    assert holding(tmp_path, "sh", "-c", f"exit {status}").wait() == status


def test_a_folder_is_held_where_its_holder_cannot_be_named(tmp_path, monkeypatch):
    """On a full disk: what goes on to write there says so better."""

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with only_process(tmp_path):
            second = holding(tmp_path, "sh", "-c", "echo begun")
            out, err = second.communicate()
    assert (second.returncode, out) == (1, "")
    assert "in use by another process: wait" in err
