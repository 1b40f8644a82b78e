"""Encoders of others: SatCLIP against its own formula, GeoCLIP against its own call, bad files."""

import hashlib
import importlib.util
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy.special import sph_harm_y
from torch import Tensor

import locties
from locties.evaluation import contender
from locties.peers import PEERS, GeoCLIP, convert_satclip

# The poles, both sides of the date line and of the prime meridian, and places between.
PLACES = torch.tensor(
    [[0, 90], [77, -90], [-180, 12], [179.999, -12], [0, 0], [2.35, 48.86], [-70.7, -33.4]]
    + [[lon, lat] for lon in range(-175, 180, 50) for lat in (-85, -61.5, -20, 5, 44, 79, 89.9)],
    dtype=torch.float64,
)
PREFIX = "model.location."


def weights(
    degree: int = 4, hidden: int = 16, layers: int = 2, dim: int = 8, gain: float = 30.0
) -> dict[str, Tensor]:
    """A location encoder of SatCLIP's shapes; the first sines turn over several times."""
    generator = torch.Generator().manual_seed(degree)
    shapes = {"layers.0": (hidden, degree**2), "last_layer": (dim, hidden)}
    shapes |= {f"layers.{i}": (hidden, hidden) for i in range(1, layers)}
    state = {}
    for name, shape in shapes.items():
        bound = gain / shape[1] if name == "layers.0" else (6 / hidden) ** 0.5
        for kind, size in (("weight", shape), ("bias", shape[:1])):
            uniform = torch.rand(size, generator=generator, dtype=torch.float64) * 2 - 1
            state[f"nnet.{name}.{kind}"] = bound * uniform
    return state


def settings(**changes: object) -> dict[str, object]:
    """Some of what Lightning keeps beside the weights."""
    return {
        "le_type": "sphericalharmonics",
        "pe_type": "siren",
        "harmonics_calculation": "analytic",
        "legendre_polys": 4,
        "num_hidden_layers": 2,
        "capacity": 16,
        "embed_dim": 8,
        "vision_layers": "moco_vit16",
        "eval_downstream": False,
    } | changes


def write(path: Path, state: dict[str, Tensor], **changes: object) -> Path:
    """A Lightning checkpoint: SatCLIP's network is in it twice, beside the image encoder's."""
    named = {f"model.{key}": value for key, value in state.items()}
    named |= {PREFIX + key: value for key, value in state.items()}
    named |= {"model.visual.cls_token": torch.zeros(1, 1, 4), "model.logit_scale": torch.ones(())}
    checkpoint = {
        "epoch": 3,
        "pytorch-lightning_version": "2.0.0",
        "state_dict": named,
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5), "mode": "min"}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": []}],
        "hyper_parameters": settings(**changes),
    }
    torch.save(checkpoint, path)
    return path


def satclip(state: dict[str, Tensor], lonlat: Tensor, degree: int, harmonics: str) -> Tensor:
    """SatCLIP's formula in float64, with scipy's harmonics, which hold their digits."""
    lon, lat = np.deg2rad(lonlat.numpy()).T
    columns = []
    for ell in range(degree):
        for m in range(-ell, ell + 1):
            values = sph_harm_y(ell, abs(m), lat + np.pi / 2, lon + np.pi)  # with (-1)^m
            part = values.imag if m < 0 else values.real
            if harmonics == "analytic":
                part = part * (np.pi if m == 0 else (-1) ** m)
            columns.append(part if m == 0 else np.sqrt(2) * part)
    x = torch.tensor(np.stack(columns, 1))
    hidden = [key.removesuffix(".weight") for key in state if key.endswith(".weight")]
    for layer in sorted(name for name in hidden if "last" not in name):
        w0 = 30.0 if layer == "nnet.layers.0" else 1.0
        x = torch.sin(w0 * (x @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]))
    return x @ state["nnet.last_layer.weight"].T + state["nnet.last_layer.bias"]


@pytest.mark.parametrize("harmonics", ["analytic", "closed-form"])
@pytest.mark.parametrize(("degree", "layers"), [(1, 1), (10, 2), (10, 3), (40, 2)])
def test_a_converted_satclip_gives_what_its_formula_says_poles_included(
    tmp_path, degree, layers, harmonics
):
    state = weights(degree, hidden=64, layers=layers)
    sizes = {"legendre_polys": degree, "capacity": 64, "num_hidden_layers": layers}
    path = write(tmp_path / "s.ckpt", state, harmonics_calculation=harmonics, **sizes)
    encoder = convert_satclip(path, tmp_path / "encoder")
    expected = satclip(state, PLACES, degree, harmonics)
    assert expected.abs().max() > 1
    assert (encoder(PLACES) - expected).abs().max() < 1e-6
    inside = encoder.network(encoder.features(PLACES))
    assert inside.dtype == torch.float64
    assert (inside - expected).abs().max() < 1e-9, "before the last rounding"


def test_the_folder_is_an_ordinary_encoder(tmp_path):
    path = write(tmp_path / "vit16.ckpt", weights())
    made = convert_satclip(path, tmp_path / "encoder")
    loaded = locties.load(tmp_path / "encoder")
    assert torch.equal(loaded(PLACES), made(PLACES))
    assert loaded(PLACES).dtype == torch.float32
    assert torch.equal(contender(str(tmp_path / "encoder")).cpu()(PLACES), made(PLACES))
    beside = contender(f"{tmp_path / 'encoder'}+xyz").cpu()
    assert beside(PLACES).shape == (len(PLACES), 8 + 3)
    table = locties.embed_grid(loaded, 90)
    assert np.isfinite(table.embedding).all()


def test_its_origin_goes_with_it(tmp_path):
    path = write(tmp_path / "vit16.ckpt", weights())
    convert_satclip(path, tmp_path / "encoder")
    loaded = locties.load(tmp_path / "encoder")
    assert loaded.origin["file"] == "vit16.ckpt"
    assert loaded.origin["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (loaded.origin["licence"], loaded.origin["harmonics"]) == ("MIT", "analytic")
    loaded.save(tmp_path / "again")
    assert locties.load(tmp_path / "again").origin == loaded.origin


@pytest.mark.parametrize("prefix", ["", "location.", "model.location.", "model."])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_bare_weights_are_read_with_any_prefix(tmp_path, prefix, suffix):
    state = {prefix + key: value for key, value in weights().items()}
    path = tmp_path / f"s{suffix}"
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(state, path)
    whole = convert_satclip(write(tmp_path / "s.ckpt", weights()), tmp_path / "whole")
    assert torch.equal(convert_satclip(path, tmp_path / "bare")(PLACES), whole(PLACES))


class Code:
    """Pickles to a call that leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("save", ["torch", "torch_legacy", "pickle", "pickle_4"])
def test_a_checkpoint_that_holds_code_is_refused_and_the_code_does_not_run(tmp_path, save):
    path, mark = tmp_path / "s.ckpt", tmp_path / "ran"
    checkpoint = {"state_dict": weights(), "hyper_parameters": Code(mark)}
    if save.startswith("pickle"):
        path.write_bytes(pickle.dumps(checkpoint, protocol=2 if save == "pickle" else 4))
    else:
        torch.save(checkpoint, path, _use_new_zipfile_serialization=save == "torch")
    with pytest.raises(
        ValueError, match=r"refused; nothing in it was executed|is not a checkpoint"
    ) as said:
        convert_satclip(path, tmp_path / "encoder")
    assert "weights_only" not in str(said.value), "torch's advice is to execute it"
    assert not mark.exists()
    assert not (tmp_path / "encoder").exists()
    if save.startswith("pickle"):
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert mark.exists(), "the code would have run"


def test_what_is_not_weights_is_named(tmp_path):
    torch.save({"state_dict": weights(), "hyper_parameters": Code(tmp_path)}, tmp_path / "s.ckpt")
    with pytest.raises(ValueError, match=r"more than weights \((posix|nt).mkdir\)"):
        convert_satclip(tmp_path / "s.ckpt", tmp_path / "encoder")


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_said(tmp_path, suffix, share):
    whole, path = tmp_path / "whole", tmp_path / f"s{suffix}"
    if suffix == ".ckpt":
        write(whole, weights())
    else:
        safetensors.torch.save_file(weights(), whole)
    content = whole.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=rf"s{suffix} is not a checkpoint"):
        convert_satclip(path, tmp_path / "encoder")
    assert not (tmp_path / "encoder").exists()


@pytest.mark.parametrize("seed", range(5))
def test_bytes_at_random_are_no_checkpoint(tmp_path, seed):
    # 0x80 and a protocol, so that the reader of pickles goes on for a while.
    noise = np.random.default_rng(seed).integers(0, 256, 500, dtype=np.uint8).tobytes()
    (tmp_path / "s.ckpt").write_bytes(b"\x80\x02" + noise)
    with pytest.raises(ValueError, match=r"s\.ckpt (is not a checkpoint|holds)"):
        convert_satclip(tmp_path / "s.ckpt", tmp_path / "encoder")


def without(*keys: str) -> dict[str, Tensor]:
    return {key: value for key, value in weights().items() if key not in keys}


@pytest.mark.parametrize(
    ("state", "changes", "message"),
    [
        (without("nnet.layers.1.bias"), {}, r"lacks model\.location\.nnet\.layers\.1\.bias\."),
        (
            without("nnet.layers.0.weight", "nnet.last_layer.weight"),
            {},
            r"lacks model\.location\.nnet\.layers\.0\.weight, .*last_layer\.weight\.",
        ),
        (
            without("nnet.layers.1.weight", "nnet.layers.1.bias"),
            {},
            r"num_hidden_layers is 2, but its location encoder's weights say 1",
        ),
        ({}, {}, r"no location encoder: .*it has model\.visual\.cls_token, model\.logit_scale"),
        (
            weights() | {"nnet.layers.0.weight": torch.zeros(16, 15)},
            {},
            r"takes 15 features, not a square",
        ),
        (
            weights() | {"nnet.layers.1.weight": torch.zeros(16, 8)},
            {},
            r"layers\.1\.weight has shape \(16, 8\), expected \(16, 16\)",
        ),
        (
            weights() | {"nnet.last_layer.bias": torch.zeros(7)},
            {},
            r"last_layer\.weight has shape \(8, 16\), expected \(7, 16\)",
        ),
        (
            weights() | {"nnet.layers.0.weight": torch.zeros(())},
            {},
            r"layers\.0\.weight has shape \(\)",
        ),
        (
            weights() | {"nnet.last_layer.weight": 3, "nnet.layers.1.bias": None},
            {},
            r"lacks .*layers\.1\.bias, .*last_layer\.weight",
        ),
        (
            weights() | {"nnet.layers.0.bias": torch.full((16,), torch.nan)},
            {},
            r"layers\.0\.bias has values that are not finite",
        ),
        (weights() | {"nnet.feats.0.weight": torch.zeros(1)}, {}, r"beside a SIREN .*feats"),
        (weights(), {"legendre_polys": 5}, r"legendre_polys is 5, but .* say 4"),
        (weights(), {"le_type": "grid"}, r"le_type 'grid'; only sphericalharmonics"),
        (weights(), {"pe_type": "fcnet"}, r"pe_type 'fcnet'; only siren"),
        (
            weights(),
            {"harmonics_calculation": "discretized"},
            r"'discretized'; only analytic or closed-form",
        ),
    ],
)
def test_a_checkpoint_of_something_else_is_said(tmp_path, state, changes, message):
    path = write(tmp_path / "s.ckpt", state, **changes)
    with pytest.raises(ValueError, match=message):
        convert_satclip(path, tmp_path / "encoder")
    assert not (tmp_path / "encoder").exists()


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"state_dict": 3}, torch.zeros(2)])
def test_a_file_without_a_state_dict_is_said(tmp_path, content):
    torch.save(content, tmp_path / "s.ckpt")
    with pytest.raises(ValueError, match=r"s\.ckpt holds no state dict"):
        convert_satclip(tmp_path / "s.ckpt", tmp_path / "encoder")


def test_what_stands_at_the_folder_stays(tmp_path):
    path, out = write(tmp_path / "s.ckpt", weights()), tmp_path / "encoder"
    convert_satclip(path, out)
    before = (out / "config.json").read_bytes()
    with pytest.raises(FileExistsError, match=r"encoder exists: pass a new folder"):
        convert_satclip(write(path, weights(dim=9), embed_dim=9), out)
    assert (out / "config.json").read_bytes() == before


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*s\.ckpt: pass a SatCLIP checkpoint"):
        convert_satclip(tmp_path / "s.ckpt", tmp_path / "encoder")


FAKE = """
import torch
from .constant import WIDE
class LocationEncoder(torch.nn.Module):
    def __init__(self, from_pretrained=True):
        assert not from_pretrained
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(WIDE))
    def forward(self, latlon):
        return latlon[:, :1] * 1000 + latlon[:, 1:] + self.w
"""


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A package laid out like geoclip, whose own __init__ must not be executed."""
    model = tmp_path / "site" / "geoclip" / "model"
    (model / "weights").mkdir(parents=True)
    for folder in (model.parent, model):
        (folder / "__init__.py").write_text("import torchvision_and_transformers")
    (model / "location_encoder.py").write_text(FAKE)
    (model / "constant.py").write_text("WIDE = 2")
    torch.save({"w": torch.tensor([0.5, 0.25])}, model / "weights" / "location_encoder_weights.pth")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return model / "weights" / "location_encoder_weights.pth"


@pytest.fixture(autouse=True)
def forget_geoclip() -> Iterator[None]:
    """The true package and the one laid out like it must not meet."""
    yield
    for name in [name for name in sys.modules if "geoclip" in name]:
        del sys.modules[name]


def test_geoclip_is_read_from_its_package_alone_and_gets_latitude_first(package, monkeypatch):
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    monkeypatch.setattr(GeoCLIP, "weights_sha256", digest)
    encoder = contender("geoclip").cpu()
    lonlat = torch.tensor([[3.0, 48.0]], dtype=torch.float64)
    assert encoder(lonlat).tolist() == [[48003.5, 48003.25]]
    assert not any(weight.requires_grad for weight in encoder.parameters())
    assert "geoclip" not in sys.modules
    assert contender("geoclip+xyz").cpu()(lonlat).shape == (1, 5)


def test_other_weights_are_not_those_of_geoclip(package):
    with pytest.raises(ValueError, match=r"the file of geoclip 1\.3\.0: its sha256 is .* install"):
        PEERS["geoclip"]()
    package.unlink()
    with pytest.raises(ValueError, match=r"weights\.pth is missing: run: pip install --no-deps"):
        PEERS["geoclip"]()


def test_a_missing_geoclip_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"run: pip install --no-deps geoclip==1\.3\.0$"):
        contender("geoclip")


@pytest.mark.skipif(importlib.util.find_spec("geoclip") is None, reason="needs geoclip 1.3.0")
def test_the_real_geoclip_knows_paris_and_agrees_with_its_own_call():
    encoder = contender("geoclip").cpu()
    assert not {"torchvision", "transformers", "geoclip"} & set(sys.modules)
    cities = torch.tensor([[2.35, 48.86], [4.35, 50.85], [151.2, -33.9]])  # Paris, Brussels, Sydney
    with torch.no_grad():
        ours = encoder(cities)
        module = sys.modules["_locties_geoclip.location_encoder"]
        own = module.LocationEncoder()(torch.tensor([[48.86, 2.35], [50.85, 4.35], [-33.9, 151.2]]))
    assert ours.shape == (3, 512)
    assert ours.dtype == torch.float32
    assert (ours - own).abs().max() < 1e-6
    unit = torch.nn.functional.normalize(ours, dim=1)
    assert unit[0] @ unit[1] > unit[0] @ unit[2] + 0.2
