"""Files and folders that appear whole or not at all."""

import errno
import fcntl
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from locties._util.files import uninterrupted, written_aside

fork = multiprocessing.get_context("fork")


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


def write(path: Path, text: str, folder: bool = False) -> None:
    with written_aside(path, folder=folder) as aside:
        (aside / "part" if folder else aside).write_text(text)


def read(path: Path) -> str:
    return (path / "part" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("folder", [False, True])
def test_the_name_appears_when_the_content_is_on_the_disk(tmp_path, monkeypatch, folder):
    path, synced = tmp_path / "new" / "table", []
    flush = os.fsync

    def recorded(handle):
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        assert path.exists() == (synced[-1] == path.parent), "the content before its name"
        flush(handle)

    monkeypatch.setattr(os, "fsync", recorded)
    write(path, "one", folder)
    assert read(path) == "one"
    assert len(synced) == (3 if folder else 2)
    assert names(path.parent) == {"table"}


@pytest.mark.parametrize("folder", [False, True])
def test_an_error_leaves_what_was_there_and_nothing_beside_it(tmp_path, folder):
    path = tmp_path / "table"
    write(path, "old", folder)

    def fail():
        with written_aside(path, folder=folder) as aside:
            (aside / "part" if folder else aside).write_text("half")
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert read(path) == "old"
    assert names(tmp_path) == {"table"}


@pytest.mark.parametrize("folder", [False, True])
def test_the_next_writer_removes_what_a_killed_one_left(tmp_path, folder):
    path = tmp_path / "table"

    def killed():
        with written_aside(path, folder=folder):
            os.kill(os.getpid(), signal.SIGKILL)

    process = fork.Process(target=killed)
    process.start()
    process.join()
    assert len(names(tmp_path)) == 1
    write(path, "whole", folder)
    assert names(tmp_path) == {"table"}


@pytest.mark.parametrize("folder", [False, True])
def test_a_writer_killed_before_it_has_its_lock_leaves_nothing_for_good(tmp_path, folder):
    def killed():
        fcntl.flock = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        write(tmp_path / "table", "lost", folder)

    process = fork.Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1
    write(tmp_path / "table", "whole", folder)
    assert names(tmp_path) == {"table"}


@pytest.mark.parametrize("folder", [False, True])
def test_a_writer_not_yet_locked_that_another_takes_for_killed_begins_again(
    tmp_path, monkeypatch, folder
):
    path, lock = tmp_path / "table", fcntl.flock

    def removed_first(handle, kind):
        monkeypatch.setattr(fcntl, "flock", lock)
        write(path, "first", folder)
        assert names(tmp_path) == {"table"}
        lock(handle, kind)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    write(path, "second", folder)
    assert read(path) == "second"
    assert names(tmp_path) == {"table"}


def test_two_writers_at_once_do_not_mix(tmp_path):
    path = tmp_path / "table"
    with written_aside(path) as aside, aside.open("w") as file:
        file.write("first, ")
        write(path, "second")
        file.write("to its end")
    assert path.read_text() == "first, to its end"
    assert names(tmp_path) == {"table"}


def test_a_file_system_without_locks_is_written_to(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    (tmp_path / ".table.0123.part").touch()  # nobody knows whether its writer lives
    monkeypatch.setattr(fcntl, "flock", no_locks)
    write(tmp_path / "table", "whole")
    assert names(tmp_path) == {"table", ".table.0123.part"}


def test_a_folder_replaces_a_folder_and_what_a_kill_between_the_renames_left(tmp_path):
    path = tmp_path / "encoder"
    write(path, "old", folder=True)
    path.rename(tmp_path / ".encoder.0123.old")
    write(path, "new", folder=True)
    assert read(path) == "new"
    write(path, "newer", folder=True)
    assert read(path) == "newer"
    assert names(tmp_path) == {"encoder"}


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("failing", ["mkdir", "touch", "fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_that_fills_at_any_moment_is_named(tmp_path, monkeypatch, folder, failing, number):
    path = tmp_path / "new" / "table"

    def full(*_, **__):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        for owner, name in {
            "mkdir": [(Path, "mkdir")],
            "touch": [(Path, "touch"), (Path, "mkdir")],
            "fsync": [(os, "fsync")],
            "rename": [(Path, "rename"), (Path, "replace")],
        }[failing]:
            patch.setattr(owner, name, full)
        with pytest.raises(OSError, match="make room") as caught:
            write(path, "one", folder)
    assert (caught.value.errno, caught.value.filename) == (number, str(path))
    assert not path.exists()
    write(path, "one", folder)
    assert names(path.parent) == {"table"}


def test_a_full_disk_is_named_with_the_file_and_what_to_do(small_disk):
    folder = small_disk(8192)
    with pytest.raises(OSError, match="make room") as caught:
        write(folder / "table.csv", "x" * 100_000)
    assert caught.value.filename == str(folder / "table.csv")
    assert names(folder) == set()


def test_an_interrupt_waits_for_the_end_and_a_second_one_does_not(signals):
    done = []

    def interrupt(times):
        with uninterrupted():
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
            done.append(times)

    with pytest.raises(KeyboardInterrupt):
        interrupt(1)
    assert done == [1]
    with pytest.raises(KeyboardInterrupt):
        interrupt(2)
    assert done == [1], "the second is to act at once"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
