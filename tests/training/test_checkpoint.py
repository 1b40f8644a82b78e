"""Runs that are killed, interrupted, starved of room or started twice, and what they leave."""

import errno
import multiprocessing
import os
import random
import resource
import signal
import socket
import time
from contextlib import contextmanager

import pytest
import torch
from pandas.testing import assert_frame_equal
from test_loop import TINY, a_modality, an_encoder, weights
from torch import nn

from locties.modality import Modality
from locties.objectives import NTXent
from locties.training import pretrain
from locties.training.checkpoint import Checkpoint, digest

LONGER = {"pairs": 64 * 160, "epochs": 40}  # about a second
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


@pytest.fixture(autouse=True)
def interrupts_arrive():
    """As in a terminal: what a shell starts in the background ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def with_dropout(dim: int) -> nn.Module:
    """It draws from the global generator, whose state must be kept too."""
    return nn.Sequential(nn.Linear(6, 32), nn.Dropout(0.3), nn.GELU(), nn.Linear(32, dim))


def modalities() -> list[Modality]:
    a = a_modality("a")
    b = Modality("b", a.lonlat, Drawn(a.samples), with_dropout, a.validation)
    return [Modality("a", a.lonlat, Drawn(a.samples), a.encoder, a.validation), b]


def a_run(folder=None, schedule="melt", **changes):
    torch.manual_seed(5)
    options = TINY | {"device": "cpu", "pairs": 64 * 32, "epochs": 8} | changes
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


@pytest.mark.parametrize("schedule", ["melt", "salt"])
@pytest.mark.parametrize("locations", ["fixed", "fresh"])
@pytest.mark.parametrize("steps", [11, 12, 32])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    schedule, locations, steps, tmp_path, monkeypatch
):
    """Within an epoch, at its end, and at the end of all."""
    whole = a_run(schedule=schedule, locations=locations)
    with (
        interrupted_after(steps, monkeypatch),
        pytest.raises(KeyboardInterrupt, match=f"after step {steps} of 32: the same call with che"),
    ):
        a_run(tmp_path, schedule, locations=locations)
    assert_same(a_run(tmp_path, schedule, locations=locations), whole)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interrupt_and_sigterm_act_too(tmp_path, monkeypatch):
    with (
        interrupted_after(3, monkeypatch, signal.SIGTERM),
        pytest.raises(KeyboardInterrupt, match="stopped after step 3 of 32"),
    ):
        a_run(tmp_path)
    with Checkpoint(tmp_path / "other", {}) as checkpoint:
        signal.raise_signal(signal.SIGINT)
        assert checkpoint.interrupted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_watched_run_is_the_same_run_and_sees_each_epoch_once_it_is_done(tmp_path):
    unwatched, seen = a_run(), []

    def watch(encoder, epoch):
        torch.rand(3)  # draws from the generator of the dropout
        with torch.no_grad():
            seen.append((epoch, encoder.training, encoder([[10.0, 50.0]]).clone()))
            for weight in encoder.parameters():
                weight.zero_()

    assert_same(a_run(watch=watch), unwatched)
    assert [epoch for epoch, _, _ in seen] == list(range(1, 9))
    assert not any(training for _, training, _ in seen)
    assert torch.equal(seen[-1][2], unwatched.encoder([[10.0, 50.0]]))
    assert not torch.equal(seen[0][2], seen[-1][2])


def test_an_interrupted_run_is_watched_as_an_unbroken_one(tmp_path, monkeypatch):
    once: list[tuple] = []
    twice: list[tuple] = []
    a_run(watch=lambda encoder, epoch: once.append((epoch, encoder([[10.0, 50.0]]))))
    with interrupted_after(11, monkeypatch), pytest.raises(KeyboardInterrupt):
        a_run(tmp_path, watch=lambda encoder, epoch: twice.append((epoch, encoder([[10.0, 50.0]]))))
    a_run(tmp_path, watch=lambda encoder, epoch: twice.append((epoch, encoder([[10.0, 50.0]]))))
    assert [epoch for epoch, _ in twice] == [epoch for epoch, _ in once]
    assert all(torch.equal(a[1], b[1]) for a, b in zip(once, twice, strict=True))


def test_a_finished_run_returns_at_once(tmp_path, monkeypatch):
    first = a_run(tmp_path)
    monkeypatch.setattr(NTXent, "forward", None)
    assert_same(a_run(tmp_path), first)


def kill_until_done(folder, kills: int, seed: int) -> list[bool]:
    """Start the run again and again, killing it at random moments.

    For each kill, whether there was a state to go on from.
    """
    chance, killed = random.Random(seed), []
    while True:
        process = processes.Process(target=a_run, args=(folder,), kwargs=LONGER)
        process.start()
        process.join(chance.uniform(0.02, 1.0) if len(killed) < kills else None)
        if not process.is_alive():
            assert process.exitcode == 0
            return killed
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        killed.append((folder / "state.pt").exists())


def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path):
    whole = a_run(**LONGER)
    killed = []
    for attempt in range(10):
        killed += kill_until_done(tmp_path / str(attempt), 3 - len(killed), seed=attempt)
        assert_same(a_run(tmp_path / str(attempt), **LONGER), whole)
        if len(killed) == 3:
            assert any(killed), "no kill left a state, so nothing was gone on with"
            return
    raise AssertionError(f"only {len(killed)} kills met a run at work: make it longer")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 1e-4}, "learning_rate is 0.003 there and 0.0001 here"),
        ({"seed": 1}, "seed is 0 there and 1 here; .*initial weights is"),
        ({"objective": "siglip"}, "objective is 'nt_xent' there and 'siglip' here"),
        ({"epochs": 4}, "epochs is 8 there and 4 here"),
        ({"schedule": "salt"}, "schedule is 'melt' there and 'salt' here"),
    ],
)
def test_another_run_is_refused_naming_what_differs(change, message, tmp_path, monkeypatch):
    with interrupted_after(4, monkeypatch), pytest.raises(KeyboardInterrupt):
        a_run(tmp_path)
    with pytest.raises(ValueError, match=f"holds the state of another run: {message}"):
        a_run(tmp_path, **change)


def test_other_data_and_other_weights_are_other_runs(tmp_path, monkeypatch):
    with interrupted_after(4, monkeypatch), pytest.raises(KeyboardInterrupt):
        pretrain("clip", [a_modality("a")], an_encoder(), checkpoint=tmp_path, **TINY)
    with pytest.raises(ValueError, match="samples of a is"):
        pretrain("clip", [a_modality("a", seed=1)], an_encoder(), checkpoint=tmp_path, **TINY)
    encoder = an_encoder()
    with torch.no_grad():
        encoder.network[0].bias += 1e-6
    with pytest.raises(ValueError, match="another run: initial weights is"):
        pretrain("clip", [a_modality("a")], encoder, checkpoint=tmp_path, **TINY)


def test_a_state_of_other_code_is_passed_over(tmp_path):
    with Checkpoint(tmp_path, {"seed": 0}) as checkpoint:
        checkpoint.write({"step": 7})
    with Checkpoint(tmp_path, {"seed": 0}) as checkpoint:
        assert checkpoint.read() == {"step": 7}
        checkpoint.made_by = "other code"
        with pytest.warns(UserWarning, match="this is other code: beginning anew"):
            assert checkpoint.read() is None


@pytest.mark.parametrize(
    ("wrong_after", "message", "kept"),
    [
        (18, "the loss is nan at step 19, on a, b: .*, so training diverged: lower", 16),
        (16, "a weight is not finite by step 16, on a, b: .* lower learning_rate", 12),
    ],
)
def test_a_step_that_went_wrong_leaves_the_last_good_state(
    wrong_after, message, kept, tmp_path, monkeypatch
):
    """Also where the loss of the epoch's last step was sound and its weights are not."""
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
        assert f"The state of step {kept} stays in {tmp_path}" in str(error.value)
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
    message = f"is in use by process {first.pid} on {socket.gethostname()}: wait until"
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
            pytest.raises(OSError, match=r"0\.4 MB\) cannot be written: .* whole: make room"),
        ):
            checkpoint.write({"step": 2, "weights": torch.zeros(100_000)})
        assert checkpoint.read() == {"step": 1}
        assert sorted(path.name for path in tmp_path.iterdir()) == [".holder", ".lock", "state.pt"]


def test_a_run_on_a_disk_that_fills_up_goes_on_once_there_is_room(tmp_path, small_disk):
    whole = a_run(tmp_path / "whole")
    size = (tmp_path / "whole" / "state.pt").stat().st_size
    folder = small_disk(size * 3 // 2)  # for one state, and not for a second beside it
    with pytest.raises(OSError, match=r"No space left.* is whole: make room and start") as error:
        a_run(folder)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(folder))
    assert sorted(path.name for path in folder.iterdir()) == [".holder", ".lock", "state.pt"]
    assert torch.load(folder / "state.pt")[-1]["progress"]["step"] == 4, "the first epoch's"
    small_disk(3 * size)
    assert_same(a_run(folder), whole)


def test_a_damaged_or_foreign_state_is_named(tmp_path):
    with Checkpoint(tmp_path, {}) as checkpoint:
        checkpoint.write({"step": 1})
        content = (tmp_path / "state.pt").read_bytes()
        for wrong in (content[:-40], b"", b"words"):
            (tmp_path / "state.pt").write_bytes(wrong)
            with pytest.raises(ValueError, match=r"state\.pt is no state of a run"):
                checkpoint.read()


def test_a_state_cannot_run_code(tmp_path):
    class Exploit:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "made"),))

    with Checkpoint(tmp_path, {}) as checkpoint:
        checkpoint.write({"step": Exploit()})
        with pytest.raises(ValueError, match="is no state of a run"):
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
