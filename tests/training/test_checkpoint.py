"""Runs that are killed, interrupted, starved of room or started twice, and what they leave."""

import errno
import io
import multiprocessing
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from pandas.testing import assert_frame_equal
from tiny_runs import TINY, a_modality, an_encoder, two_modalities, weights
from torch import nn

import locties
from locties.modality import Modality
from locties.objectives import NTXent
from locties.training import pretrain
from locties.training.checkpoint import Checkpoint, digest, load_state

pytestmark = pytest.mark.usefixtures("signals")

LONGER = {"pairs": 64 * 100, "epochs": 50}  # about half a second
processes = multiprocessing.get_context("fork")


class Drawn:
    """Samples that can be drawn afresh."""

    def __init__(self, samples: torch.Tensor) -> None:
        self.samples = samples

    def __getitem__(self, index):
        return self.samples[index]

    def __len__(self):
        return len(self.samples)

    def to(self, device):
        return self

    def fresh(self, n, generator):
        lonlat = torch.rand(n, 2, generator=generator) * 90
        return lonlat, torch.sin(lonlat.deg2rad()).repeat(1, 3)


def with_dropout(dim: int) -> nn.Module:
    """It draws from the global generator, whose state must be kept too."""
    return nn.Sequential(nn.Linear(6, 32), nn.Dropout(0.3), nn.GELU(), nn.Linear(32, dim))


def modalities() -> list[Modality]:
    a, b = two_modalities()
    return [
        Modality("a", a.lonlat, Drawn(a.samples), a.encoder, a.validation),
        Modality("b", b.lonlat, Drawn(b.samples), with_dropout, b.validation),
    ]


def a_run(folder=None, schedule="melt", **changes):
    torch.manual_seed(5)
    options = TINY | {"pairs": 64 * 16, "epochs": 8} | changes
    return pretrain(schedule, modalities(), an_encoder(), checkpoint=folder, **options)


def assert_same(run, other):
    assert torch.equal(weights(run.encoder), weights(other.encoder))
    assert torch.equal(weights(run.modality_encoders), weights(other.modality_encoders))
    assert_frame_equal(
        run.history.drop(columns="seconds"), other.history.drop(columns="seconds"), check_exact=True
    )
    assert {**run.settings, "seconds": 0} == {**other.settings, "seconds": 0}


@contextmanager
def interrupted_after(steps: int, monkeypatch, number=signal.SIGINT):
    """The signal comes within that step, after the optimiser's own."""
    seen = []

    def clamp_(self):
        seen.append(1)
        if len(seen) == steps:
            signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(NTXent, "clamp_", clamp_)
        yield


@pytest.mark.parametrize(("schedule", "locations"), [("melt", "fixed"), ("salt", "fresh")])
@pytest.mark.parametrize("steps", [5, 6, 16])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    schedule, locations, steps, tmp_path, monkeypatch
):
    """Within an epoch, at its end, and at the end of all."""
    whole = a_run(schedule=schedule, locations=locations)
    with (
        interrupted_after(steps, monkeypatch),
        pytest.raises(KeyboardInterrupt, match=f"after step {steps} of 16: .*checkpoint="),
    ):
        a_run(tmp_path, schedule, locations=locations)
    assert_same(a_run(tmp_path, schedule, locations=locations), whole)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interrupt_and_sigterm_act_too(tmp_path, monkeypatch):
    with (
        interrupted_after(3, monkeypatch, signal.SIGTERM),
        pytest.raises(KeyboardInterrupt, match="after step 3 of 16"),
    ):
        a_run(tmp_path)
    with Checkpoint(tmp_path / "other", {}) as checkpoint:
        signal.raise_signal(signal.SIGINT)
        assert checkpoint.interrupted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_callback_sees_each_epoch_and_changes_nothing():
    without, seen = a_run(), []

    def look(encoder, epoch):
        torch.rand(3)  # draws from the generator of the dropout
        with torch.no_grad():
            seen.append((epoch, encoder.training, encoder([[10.0, 50.0]]).clone()))
            for weight in encoder.parameters():
                weight.zero_()

    assert_same(a_run(after_epoch=look), without)
    assert [epoch for epoch, _, _ in seen] == list(range(1, 9))
    assert not any(training for _, training, _ in seen)
    assert torch.equal(seen[-1][2], without.encoder([[10.0, 50.0]]))
    assert not torch.equal(seen[0][2], seen[-1][2])


def test_a_callback_sees_an_interrupted_run_as_an_unbroken_one(tmp_path, monkeypatch):
    unbroken: list[tuple] = []
    broken: list[tuple] = []

    def look_into(seen):
        return lambda encoder, epoch: seen.append((epoch, encoder([[10.0, 50.0]]).tolist()))

    a_run(after_epoch=look_into(unbroken))
    with interrupted_after(5, monkeypatch), pytest.raises(KeyboardInterrupt):
        a_run(tmp_path, after_epoch=look_into(broken))
    a_run(tmp_path, after_epoch=look_into(broken))
    assert broken == unbroken


def test_a_finished_run_returns_at_once(tmp_path, monkeypatch):
    first = a_run(tmp_path)
    monkeypatch.setattr(NTXent, "forward", None)
    assert_same(a_run(tmp_path), first)


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_with_the_same_bits(tmp_path):
    """Three kills, each after one more state was written; the fourth start finishes."""
    whole, chance, killed = a_run(**LONGER), random.Random(0), 0
    while True:
        process = processes.Process(target=a_run, args=(tmp_path,), kwargs=LONGER)
        before = time_of_state(tmp_path)
        process.start()
        while killed < 3 and process.is_alive() and time_of_state(tmp_path) == before:
            time.sleep(0.002)
        if killed == 3:
            process.join(60)
            assert process.exitcode == 0
            break
        time.sleep(chance.uniform(0, 0.02))  # in a step, in a write, or between
        assert process.is_alive(), "it was done before the kill"
        process.kill()
        process.join()
        killed += 1
    assert_same(a_run(tmp_path, **LONGER), whole)


def time_of_state(folder) -> int | None:
    path = folder / "state.pt"
    return path.stat().st_mtime_ns if path.exists() else None


def moved() -> locties.LocationEncoder:
    encoder = an_encoder()
    with torch.no_grad():
        encoder.network[0].bias += 1e-6
    return encoder


OTHERS = {
    "learning_rate": (1e-4, "learning_rate is 0.003 there and 0.0001 here"),
    "decay": ("constant", "decay is 'cosine' there and 'constant' here"),
    "seed": (1, r"another run: seed is 0 there and 1 here\. "),
    "objective": ("siglip", "objective is 'nt_xent' there and 'siglip' here"),
    "objective_options": (
        {"negatives": "within_modality"},
        "objective_options negatives is None there and 'within_mod",
    ),
    "pairs": (64 * 24, "pairs is 1024 there and 1536 here"),
    "batch": (32, "batch is 64 there and 32 here"),
    "epochs": (4, "epochs is 8 there and 4 here"),
    "precision": ("bfloat16", "precision is 'float32' there and 'bfloat16' here"),
    "schedule": ("salt", "schedule is 'melt' there and 'salt' here"),
    "locations": ("fresh", "locations is 'fixed' there and 'fresh' here"),
    "modalities": (modalities()[:1], r"modalities is \['a', 'b'\] there and \['a'\] here"),
    "modalities, samples": (
        [a_modality("a"), a_modality("b", seed=1)],
        "another run: the samples of b differ",
    ),
    "encoder": (
        locties.LocationEncoder("xyz", "linear", 16),
        "encoder network is 'siren' there and 'linear' here",
    ),
    "encoder, weights": (moved(), "another run: the initial weights differ"),
}


@pytest.mark.parametrize("setting", OTHERS)
def test_another_run_is_refused_by_name_and_its_state_stays(setting, tmp_path, monkeypatch):
    monkeypatch.setattr("locties.training.settings.bfloat16_is_fast", lambda: True)
    call = {"schedule": "melt", "modalities": modalities(), "encoder": an_encoder()}
    call |= TINY | {"pairs": 64 * 16, "epochs": 8, "checkpoint": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        pretrain(**call, after_epoch=lambda *_: signal.raise_signal(signal.SIGINT))
    before = (tmp_path / "state.pt").read_bytes()
    value, message = OTHERS[setting]
    with pytest.raises(ValueError, match=f"(?s){message}.*another folder, or delete {tmp_path}"):
        pretrain(**call | {setting.partition(",")[0]: value})
    assert (tmp_path / "state.pt").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".holder", ".lock", "state.pt"]


RESUMED = """
import sys
from tiny_runs import TINY, a_modality, an_encoder
from locties.training import loop, pretrain

steps, step = [], loop.Loop.step
loop.Loop.step = lambda self: steps.append(step(self))
pretrain("clip", a_modality("a"), an_encoder(), checkpoint=sys.argv[1], **TINY)
print(loop.__file__, len(steps))
"""


@pytest.mark.slow
def test_a_comment_in_a_source_file_changes_nothing(tmp_path):
    """In another process a copy of the package, a comment in each file, takes the last steps."""

    def stop(encoder, epoch):
        if epoch == 3:
            signal.raise_signal(signal.SIGINT)

    state, call = tmp_path / "state", ("clip", a_modality("a"), an_encoder())
    with pytest.raises(KeyboardInterrupt, match="after step 6 of 8"):
        pretrain(*call, checkpoint=state, after_epoch=stop, **TINY)
    skipped = shutil.ignore_patterns("published", "__pycache__")
    copy = shutil.copytree(Path(locties.__file__).parent, tmp_path / "locties", ignore=skipped)
    for source in copy.rglob("*.py"):
        source.write_text(source.read_text() + "# a comment\n")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    command = [sys.executable, "-W", "error::UserWarning", "-c", RESUMED, str(state)]
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{copy / 'training' / 'loop.py'} 2\n", "")


def test_a_state_of_another_schema_is_refused_and_stays(tmp_path):
    older = io.BytesIO()
    torch.save({"schema": 2, "settings": {"seed": 0}, "state": {"step": 7}}, older)
    with Checkpoint(tmp_path / "newer", {"seed": 0}) as newer:
        newer.write({"step": 1})
    written = (tmp_path / "newer" / "state.pt").read_bytes()
    for content in (older.getvalue(), written.replace(b"state 3,", b"state 4,", 1)):
        (tmp_path / "state.pt").write_bytes(content)
        shutil.rmtree(tmp_path / "newer", ignore_errors=True)
        with pytest.raises(ValueError, match=f"schema 3.*or delete {tmp_path}.*resume with"):
            a_run(tmp_path)
        assert (tmp_path / "state.pt").read_bytes() == content


def test_a_state_altered_anywhere_is_refused_by_name(tmp_path):
    """Each bit of the first and last bytes, and bits, bytes and lengths at random."""
    with Checkpoint(tmp_path, {"seed": 0}) as checkpoint:
        checkpoint.write({"step": 7, "weights": torch.rand(500)})
        path, chance = tmp_path / "state.pt", random.Random(0)
        good = path.read_bytes()
        places = [*range(100), *range(len(good) - 30, len(good))]
        places += [chance.randrange(len(good)) for _ in range(300)]
        altered = [flipped(good, place, 1 << chance.randrange(8)) for place in places]
        altered += [good[: chance.randrange(len(good))] for _ in range(30)]
        altered += [good + b"\0", good + good, good[1:], b"\n" + good, b"", b"words"]
        for content in altered:
            path.write_bytes(content)
            with pytest.raises(ValueError, match=f"{path} is truncated or altered.*delete"):
                checkpoint.read()
        path.write_bytes(good)
        assert checkpoint.read()["weights"].shape == (500,)


def flipped(content: bytes, place: int, mask: int) -> bytes:
    return content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :]


def test_another_torch_is_said_and_the_run_continues(tmp_path, monkeypatch):
    with Checkpoint(tmp_path, {"seed": 0}) as checkpoint:
        checkpoint.write({"step": 7})
        monkeypatch.setattr(torch, "__version__", "9.9")
        with pytest.warns(UserWarning, match=r"torch 9\.9"):
            assert checkpoint.read() == {"step": 7}


@pytest.mark.parametrize(
    ("wrong_after", "message", "kept"),
    [
        (9, "nan at step 10, on a, b: .*lower learning_rate", 8),
        (8, "a weight is not finite by step 8, on a, b: .*lower learning_rate", 6),
    ],
)
def test_a_step_that_went_wrong_leaves_the_last_good_state(
    wrong_after, message, kept, tmp_path, monkeypatch
):
    """Also where the loss of the epoch's last step was finite and its weights are not."""
    seen = []

    @torch.no_grad()
    def clamp_(self):
        seen.append(1)
        if len(seen) == wrong_after:
            self.log_scale.fill_(torch.nan)

    with monkeypatch.context() as patch:
        patch.setattr(NTXent, "clamp_", clamp_)
        with pytest.raises(FloatingPointError, match=message) as error:
            a_run(tmp_path)
        assert f"step {kept} stays in {tmp_path}" in str(error.value)
    assert_same(a_run(tmp_path), a_run())


def hold(folder, ready):
    with Checkpoint(folder, {}):
        ready.set()
        time.sleep(60)


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
    ready = processes.Event()
    first = processes.Process(target=hold, args=(tmp_path, ready))
    first.start()
    assert ready.wait(10)
    message = f"process {first.pid} on {socket.gethostname()}"
    with pytest.raises(RuntimeError, match=message):
        a_run(tmp_path)
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    with Checkpoint(tmp_path, {}):
        assert (tmp_path / ".holder").read_text().startswith(f"process {os.getpid()} on")


@contextmanager
def a_full_disk():
    """No file may grow beyond 1 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_state_before(tmp_path):
    with Checkpoint(tmp_path, {"seed": 0}) as checkpoint:
        checkpoint.write({"step": 1})
        with (
            a_full_disk(),
            pytest.raises(OSError, match=r"0\.4 MB.* is intact: make room"),
        ):
            checkpoint.write({"step": 2, "weights": torch.zeros(100_000)})
        assert checkpoint.read() == {"step": 1}
        assert sorted(path.name for path in tmp_path.iterdir()) == [".holder", ".lock", "state.pt"]


def test_a_run_on_a_disk_that_fills_up_goes_on_once_there_is_room(tmp_path, small_disk):
    whole = a_run(tmp_path / "whole")
    size = (tmp_path / "whole" / "state.pt").stat().st_size
    folder = small_disk(size * 3 // 2)  # for one state, and not for a second beside it
    with pytest.raises(OSError, match=r"No space left.* is intact: make room") as error:
        a_run(folder)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(folder))
    assert sorted(path.name for path in folder.iterdir()) == [".holder", ".lock", "state.pt"]
    assert load_state(folder / "state.pt")["state"]["progress"]["step"] == 2, "the first epoch's"
    small_disk(3 * size)
    assert_same(a_run(folder), whole)


def test_a_state_cannot_run_code(tmp_path):
    class Exploit:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "made"),))

    with Checkpoint(tmp_path, {}) as checkpoint:
        checkpoint.write({"step": Exploit()})
        with pytest.raises(ValueError, match="is not the state of a run"):
            checkpoint.read()
    assert not (tmp_path / "made").exists()


def test_nothing_is_kept_without_a_folder():
    with Checkpoint(None, {}) as checkpoint:
        checkpoint.write({"step": 1})
        assert checkpoint.read() is None
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_digest_sees_every_bit():
    zeros = torch.zeros(3)
    assert digest([zeros]) != digest([zeros, zeros])
    assert digest([zeros]) != digest([-zeros])
    assert digest([torch.tensor(1.0), torch.ones(2, dtype=torch.int64)])


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(ValueError, match=r"thesis\.docx.*pass a new folder"):
        a_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]
    with pytest.raises(ValueError, match=r"thesis\.docx' is a file: pass a new folder"):
        a_run(tmp_path / "thesis.docx")
