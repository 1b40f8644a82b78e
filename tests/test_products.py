"""Products of float32 matrices on a CPU, by the faster of torch's two libraries."""

import pytest
import torch

from locties import products
from locties.encoder import LocationEncoder
from locties.modalities import Modality, profile_encoder
from locties.products import ByOneDNN
from locties.training.loop import pretrain

pytestmark = pytest.mark.skipif(products._setting() is None, reason="torch cannot be told")


def precision() -> str:
    return torch.backends.mkldnn.matmul.fp32_precision


@pytest.fixture
def chosen():
    """A function by which a reader chooses a precision; as it was, after."""
    setting = torch.backends.mkldnn.matmul
    before = setting.fp32_precision
    yield lambda value: setattr(setting, "fp32_precision", value)
    setting.fp32_precision = before


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


def test_the_setting_is_as_it_was_after_an_error():
    with pytest.raises(ValueError, match="mine"), ByOneDNN():
        raise ValueError("mine")
    assert precision() == "none"


def test_where_onednn_would_round_nothing_changes(monkeypatch):
    monkeypatch.setattr(products, "_in_float32", lambda: False)
    with ByOneDNN():
        assert precision() == "none"


def test_what_a_reader_chose_stays(chosen):
    chosen("ieee")
    with ByOneDNN():
        assert precision() == "ieee"
    assert precision() == "ieee"


def test_pretraining_leaves_the_setting_alone():
    lonlat, samples = torch.rand(64, 2) * 90, torch.randn(64, 6)
    modality = Modality("a", lonlat, samples, profile_encoder(6))
    seen = []

    def watch(encoder, epoch):
        seen.append(precision())

    encoder = LocationEncoder("xyz", "linear", dim=8)
    pretrain("clip", [modality], encoder, pairs=64, batch=32, epochs=2, progress=False, watch=watch)
    assert seen == ["none", "none"]
    assert precision() == "none"
