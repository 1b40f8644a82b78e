"""Products of matrices on a CPU: the faster of torch's two libraries, and bfloat16."""

import os
import subprocess
import sys
import threading
from time import perf_counter

import pytest
import torch
from torch import nn

from locties._util import matmul
from locties._util.matmul import ByOneDNN, bfloat16_is_fast, drop_denormal_gradients
from locties.encoder import LocationEncoder
from locties.modality import Modality
from locties.training.loop import pretrain

precision = torch.get_float32_matmul_precision


@pytest.fixture
def in_float32(monkeypatch):
    """As on a machine where oneDNN keeps float32."""
    monkeypatch.setattr(matmul, "_onednn_keeps_float32", lambda: True)


@pytest.fixture(autouse=True)
def _as_it_was():
    matmul._onednn_keeps_float32.cache_clear()
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    "shape", [(2048, 256, 2048), (128, 256, 2048), (512, 1600, 512), (7, 5, 3)]
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_product_is_float32(shape, turned):
    rows, inner, columns = shape
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(rows, inner, generator=generator)
    b = torch.randn(columns, inner, generator=generator).T
    if turned:
        a = a.T.contiguous().T
    exact = a.double() @ b.double()
    with ByOneDNN():
        error = (a @ b - exact).abs().max() / exact.abs().max()
    assert error < 2e-6, "this is not float32; bfloat16 would be off by .002"


def test_onednn_is_allowed_within_and_not_after(in_float32):
    by_onednn = ByOneDNN()
    for _ in range(2):
        with by_onednn:
            assert precision() == "medium"
        assert precision() == "highest"


def test_the_setting_is_as_it_was_after_an_error(in_float32):
    with pytest.raises(ValueError, match="mine"), ByOneDNN():
        raise ValueError("mine")
    assert precision() == "highest"


def test_the_last_to_leave_puts_it_back(in_float32):
    """Two trainings in threads of one process, or one within another."""
    entered, leave = threading.Event(), threading.Event()

    def other():
        with ByOneDNN():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with ByOneDNN():
        thread.start()
        assert entered.wait(10)
    assert precision() == "medium", "the other is still within"
    leave.set()
    thread.join()
    assert precision() == "highest"


def test_where_onednn_would_round_nothing_changes(monkeypatch):
    monkeypatch.setattr(matmul, "_onednn_keeps_float32", lambda: False)
    with ByOneDNN():
        assert precision() == "highest"


@pytest.mark.parametrize("chosen", ["high", "medium"])
def test_what_a_reader_chose_stays(in_float32, chosen):
    torch.set_float32_matmul_precision(chosen)
    with ByOneDNN():
        assert precision() == chosen
    assert precision() == chosen


def test_pretraining_uses_it_in_its_steps_alone(in_float32):
    seen = {"forward": set(), "after epoch": set()}

    class Looking(nn.Linear):
        def forward(self, x):
            seen["forward"].add((self.training, precision()))
            return super().forward(x)

    lonlat, samples = torch.rand(64, 2) * 90, torch.randn(64, 6)
    modality = Modality("a", lonlat, samples, lambda dim: Looking(6, dim))
    encoder = LocationEncoder("xyz", "linear", dim=8)

    def look(*_):
        seen["after epoch"].add(precision())

    pretrain(
        "clip", [modality], encoder, pairs=64, batch=32, epochs=2, progress=False, after_epoch=look
    )
    assert seen == {"forward": {(True, "medium")}, "after epoch": {"highest"}}
    assert precision() == "highest"


@pytest.mark.slow
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="oneDNN has the switch")
def test_bfloat16_is_slow_without_instructions_for_it():
    code = "from locties._util.matmul import bfloat16_is_fast; print(bfloat16_is_fast())"
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "False"


def test_whether_bfloat16_is_fast_agrees_with_larger_products():
    """Not with the processor's flags: avx512_bf16 takes twice as long as float32 on some Xeons."""
    seconds = {torch.float32: [], torch.bfloat16: []}
    for _ in range(10):
        for dtype, found in seconds.items():
            a = torch.ones(384, 384, dtype=dtype)
            start = perf_counter()
            torch.mm(a, a)
            found.append(perf_counter() - start)
    ratio = min(seconds[torch.bfloat16]) / min(seconds[torch.float32])
    if 0.8 < ratio < 1.25:
        pytest.skip(f"both are equally fast here ({ratio:.2f})")
    assert bfloat16_is_fast() == (ratio < 1)


def test_denormal_gradients_are_dropped_and_others_stay():
    x = torch.zeros(3, requires_grad=True)
    y = x * 1
    drop_denormal_gradients(y)
    y.backward(torch.tensor([1e-31, 1e-29, 1.0]))
    assert x.grad.tolist() == pytest.approx([0.0, 1e-29, 1.0], rel=1e-6, abs=0)
