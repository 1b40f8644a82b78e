"""Files that appear whole or not at all."""

import os
from pathlib import Path

import pytest

from locties.files import written_aside


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
