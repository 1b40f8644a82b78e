"""Files that appear whole or not at all."""

import errno
import os
import signal
from pathlib import Path

import pytest

from locties._util.files import remedy, uninterrupted, written_aside


def test_a_file_has_its_name_only_when_it_is_whole_and_on_the_disk(tmp_path, monkeypatch):
    path, synced = tmp_path / "table.csv", []
    flush = os.fsync

    def watched(handle):
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        flush(handle)

    monkeypatch.setattr(os, "fsync", watched)
    with written_aside(path) as aside:
        aside.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    assert synced == [str(aside), str(tmp_path)], "the content before its name"


def test_an_error_leaves_what_was_there_and_nothing_beside_it(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def fail():
        with written_aside(path) as aside:
            aside.write_text("half")
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        fail()
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("table.csv", "old")]


@pytest.fixture
def interrupts_arrive():
    """As in a terminal: what a shell starts in the background ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_waits_for_the_end_and_a_second_one_does_not(interrupts_arrive):
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


def test_room_is_asked_for_where_it_is_lacking():
    assert remedy(OSError(errno.ENOSPC, "No space left on device")) == "make room"
    assert remedy(OSError("the server is away")) == "mend that"
    assert remedy(PermissionError(errno.EACCES, "Permission denied")) == "mend that"
