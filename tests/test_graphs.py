"""Encoders as graphs, copies and in half precision: the same embedding as ever."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from locties.encoder import LocationEncoder, load
from locties.features import FEATURES

PLACES = torch.tensor(
    [(13.4, 52.5), (-70.7, -33.5), (-180.0, 0.0), (179.9, -16.5), (0.0, 90.0), (370.0, 10.0)],
    dtype=torch.float64,
)
OPTIONS = {
    "spherical_harmonics": {"degree": 12},
    "hash_grid": {"levels": 3, "rows": 512, "degree": 6},
    "fourier": {"frequencies": 16},
    "equal_earth_fourier": {"frequencies": 16},
}


def made(features: str, network: str = "residual", **options: object) -> LocationEncoder:
    encoder = LocationEncoder(
        features, network, 8, OPTIONS.get(features), {"hidden": 16, "layers": 2}, **options
    )
    if features == "hash_grid":
        encoder.features.tables.data.mul_(1000)  # as training does
    return encoder.eval().requires_grad_(False)


@pytest.mark.parametrize("features", FEATURES)
def test_a_copy_and_a_pickle_give_the_same_embedding(features):
    encoder = made(features)
    expected = encoder(PLACES)
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert torch.equal(other(PLACES), expected)
        assert other.config == encoder.config


@pytest.mark.slow
def test_a_data_loader_embeds_in_its_workers():
    encoder = made("hash_grid", nested=[2, 4], readout=4)
    loader = DataLoader(
        PLACES.tolist(),
        batch_size=3,
        num_workers=2,
        collate_fn=encoder,  # is pickled, sent to each worker and called there
        multiprocessing_context="spawn",
    )
    torch.testing.assert_close(torch.cat(list(loader)), encoder(PLACES))


@pytest.mark.parametrize(
    ("dtype", "within"), [(torch.float16, 0.01), (torch.bfloat16, 0.06), (torch.float64, 1e-5)]
)
@pytest.mark.parametrize("features", FEATURES)
def test_another_precision_rounds_the_network_and_never_the_places(features, dtype, within):
    """Constants of features stay exact: a rounded frequency would be another wave."""
    encoder = made(features)
    expected = encoder(PLACES)
    found = copy.deepcopy(encoder).to(dtype)(PLACES)
    assert found.dtype == torch.float32
    assert (found - expected).norm() < within * expected.norm()
    constants = dict(encoder.features.named_buffers())
    for name in constants.keys() & {"radii", "frequencies"}:
        kept = getattr(copy.deepcopy(encoder).to(dtype).float().features, name)
        assert torch.equal(kept.double(), constants[name].double()), name


@pytest.mark.slow
@pytest.mark.parametrize("features", FEATURES)
def test_a_compiled_encoder_gives_the_same_embedding_for_any_number_of_places(features):
    """The backend needs no compiler of C++; the graphs are those of every backend."""
    encoder = made(features)
    torch._dynamo.reset()
    compiled = torch.compile(encoder, backend="aot_eager")
    many = PLACES.repeat(200, 1)
    torch.testing.assert_close(compiled(PLACES), encoder(PLACES), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(compiled(many), encoder(many), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="latitude must be in"):
        compiled(torch.tensor([[0.0, 91.0]]))


@pytest.mark.slow
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("features", FEATURES)
def test_an_exported_graph_gives_the_same_embedding_for_any_number_of_places(features, strict):
    encoder = made(features)
    expected = encoder(PLACES)
    shapes = {"lonlat": {0: torch.export.Dim("places")}}
    graph = torch.export.export(encoder, (PLACES,), dynamic_shapes=shapes, strict=strict).module()
    torch.testing.assert_close(graph(PLACES), expected, rtol=1e-5, atol=1e-5)
    wrong = torch.tensor([(0.0, 91.0), (torch.inf, 0.0), (torch.nan, 0.0)], dtype=torch.float64)
    found = graph(torch.cat([PLACES[:2], wrong]))
    torch.testing.assert_close(found[:2], expected[:2], rtol=1e-5, atol=1e-5)
    assert found[2:].isnan().all(), "a graph cannot raise"
    assert torch.equal(encoder(PLACES), expected), "a symbolic tensor stayed in a cache"


NOT_IN_ONNX = ["equal_earth_fourier"]


@pytest.mark.parametrize("features", NOT_IN_ONNX)
def test_features_without_a_form_in_onnx_are_refused_by_name(features, tmp_path):
    with pytest.raises(ValueError, match=rf"{features}.*torch\.export\.export.*'fourier'"):
        made(features).to_onnx(tmp_path / "encoder.onnx")
    assert not any(tmp_path.iterdir())


def run_onnx(path: Path, places: torch.Tensor) -> torch.Tensor:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"lonlat": places.numpy()})[0])


@pytest.mark.slow
@pytest.mark.parametrize("features", [name for name in FEATURES if name not in NOT_IN_ONNX])
def test_an_onnx_graph_agrees_with_torch(features, tmp_path, capfd):
    encoder = made(features, "siren")
    encoder.to_onnx(tmp_path / "encoder.onnx")
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.onnx"]
    wrong = torch.tensor([(0.0, 91.0), (torch.nan, 0.0)], dtype=torch.float64)
    found = run_onnx(tmp_path / "encoder.onnx", torch.cat([PLACES, wrong]))
    torch.testing.assert_close(found[:-2], encoder(PLACES), rtol=1e-5, atol=1e-5)
    assert found[-2:].isnan().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["melt", "best"])
def test_a_published_encoder_in_onnx_agrees_with_torch(name, tmp_path):
    encoder = load(name).requires_grad_(False)
    encoder.to_onnx(tmp_path / "encoder.onnx")
    generator = torch.Generator().manual_seed(0)
    places = torch.rand(500, 2, generator=generator, dtype=torch.float64) * 360 - 180
    places[:, 1] /= 2
    found = run_onnx(tmp_path / "encoder.onnx", places)
    torch.testing.assert_close(found, encoder(places), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_nested_dimension_and_a_month_can_be_written_as_onnx(tmp_path):
    encoder = made("xyz", nested=[2, 4], readout=4, time="month")
    with pytest.raises(ValueError, match=r"encoder\.in_month\(7\)\.to_onnx"):
        encoder.to_onnx(tmp_path / "july.onnx")
    july = encoder.in_month(7)
    july.to_onnx(tmp_path / "july.onnx")
    found = run_onnx(tmp_path / "july.onnx", PLACES)
    assert found.shape == (6, 4)
    torch.testing.assert_close(found, july(PLACES), rtol=1e-5, atol=1e-5)


class Complex(torch.nn.Module):
    """Features of one's own, which ONNX cannot express."""

    continuous, dim = False, 2

    def forward(self, lonlat: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvals(torch.diag_embed(lonlat)).real.float()


@pytest.mark.slow
def test_what_onnx_cannot_express_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(FEATURES, "complex", Complex)
    with pytest.raises(ValueError, match=r"cannot be written as ONNX.*torch\.export\.export"):
        made("complex").to_onnx(tmp_path / "encoder.onnx")
    assert not any(tmp_path.iterdir())
