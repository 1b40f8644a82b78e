"""What `benchmarks/kills.py` finds, of work that goes on and of work that only seems to."""

import multiprocessing
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from locties_paper.site.notebook import REPOSITORY

STEPS, PAUSE = 10, 0.05

pytestmark = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork"
)


@pytest.fixture
def kills(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import kills

    return kills


def done(folder: Path) -> list[str]:
    path = folder / "done"
    return path.read_text().split() if path.exists() else []


def steps(folder: Path, first: int) -> None:
    for number in range(first, STEPS):
        time.sleep(PAUSE)
        with (folder / "done").open("a") as file:
            file.write(f"{number}\n")


def a_kind(kills, work):
    return kills.Kind("steps", work, lambda folder: len(done(folder)), lambda f: " ".join(done(f)))


def test_work_that_goes_on_ends_the_same(kills, tmp_path):
    kind = a_kind(kills, lambda folder: steps(folder, len(done(folder))))
    table = kills.rounds(kind, 3, tmp_path)
    assert table["identical"].all()
    assert list(table["resumed"]) == list(table["reached"] > 0)
    assert table["reached"].is_monotonic_increasing
    assert table["reached"].iloc[-1] > STEPS / 3, "the kills are spread over the whole length"
    assert table["reached"].max() < STEPS
    assert (table["second"] < table["length"]).all()


def test_work_that_forgets_how_far_it_was_is_found_out(kills, tmp_path):
    table = kills.rounds(a_kind(kills, lambda folder: steps(folder, 0)), 3, tmp_path)
    assert table["resumed"].iloc[-1]
    assert (table["identical"] == ~table["resumed"]).all()


def test_work_that_fails_when_it_is_taken_up_is_no_result(kills, tmp_path):
    def work(folder):
        if done(folder):
            raise SystemExit(3)
        steps(folder, 0)

    with pytest.raises(RuntimeError, match="steps failed with exit code 3"):
        kills.rounds(a_kind(kills, work), 3, tmp_path)


def test_what_the_work_has_started_in_a_session_of_its_own_is_killed_too(kills, tmp_path):
    def work(folder):
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        (folder / "part").write_text(str(child.pid))
        (folder / "part").rename(folder / "child")
        time.sleep(60)

    process = kills.fork.Process(target=work, args=(tmp_path,))
    process.start()
    end = time.monotonic() + 20
    while not (tmp_path / "child").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    kills.kill(process.pid, process.join)
    number = int((tmp_path / "child").read_text())
    if psutil.pid_exists(number):  # nobody may have asked for its exit code yet
        assert psutil.Process(number).status() == psutil.STATUS_ZOMBIE


def test_a_hash_tells_files_apart_and_leaves_out_notes(kills, tmp_path):
    (tmp_path / "a").write_text("1")
    before = kills.files(tmp_path, ".notes")
    (tmp_path / ".notes").write_text("who")
    assert kills.files(tmp_path, ".notes") == before
    (tmp_path / "a").write_text("2")
    assert kills.files(tmp_path, ".notes") != before


@pytest.mark.slow
def test_a_training_goes_on_from_a_state_to_the_same_bits(kills, tmp_path):
    """Killed once near its end, so that it has written states, and compared with one unbroken."""
    kind = kills.training("salt")
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    kind.work(tmp_path / "whole")
    process = kills.fork.Process(target=kind.work, args=(tmp_path / "killed",))
    process.start()
    end = time.monotonic() + 120
    while not kind.reached(tmp_path / "killed"):
        assert time.monotonic() < end
        time.sleep(0.01)
    kills.kill(process.pid, process.join)
    reached = kind.reached(tmp_path / "killed")
    assert 0 < reached < kind.reached(tmp_path / "whole") == 500
    assert kind.result(tmp_path / "killed") != kind.result(tmp_path / "whole")
    kind.work(tmp_path / "killed")
    assert kind.result(tmp_path / "killed") == kind.result(tmp_path / "whole")
