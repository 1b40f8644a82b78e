"""Other published encoders for comparison: SatCLIP and GeoCLIP.

Neither comes with locties. `convert_satclip` turns a released SatCLIP checkpoint into an encoder
folder; `PEERS` lists the encoders that are read from installed packages. Code and weights of both
have the MIT licence: SatCLIP is by Microsoft, GeoCLIP by Vicente Vivanco Cepeda.
"""

import hashlib
import importlib
import importlib.util
import io
import math
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from locties._util.files import UnusableFile, sha256_of
from locties._util.registry import Registry
from locties._util.weights import check_size, read_weights
from locties.encoder import LocationEncoder

_PREFIXES = ("model.location.nnet.", "location.nnet.", "model.nnet.", "nnet.")
# Sizes that a SatCLIP checkpoint names; its weights show them too.
_SIZES = {
    "legendre_polys": "degree",
    "num_hidden_layers": "layers",
    "capacity": "hidden",
    "embed_dim": "dim",
}


def convert_satclip(
    checkpoint: str | os.PathLike[str], out: str | os.PathLike[str]
) -> LocationEncoder:
    """Turn a released SatCLIP checkpoint into an encoder folder; nothing in it is executed.

    SatCLIP's harmonics differ from ours by factors, which are multiplied into the first layer once.
    All are evaluated at the antipode, which gives (-1)^l. The "analytic" ones, used by the released
    weights, are pi times too large where m = 0. The "closed-form" ones keep the Condon-Shortley
    phase (-1)^m. Weights stay float64, as SatCLIP computes; the embedding is float32.

    Args:
        checkpoint: Lightning's ``.ckpt``, with ``state_dict`` and ``hyper_parameters``; or a bare
            state dict, pickled or as ``.safetensors``, whose harmonics are assumed "analytic".
        out: folder to write, which must not exist yet.

    Returns:
        The encoder as `locties.load` reads it from `out`. Its `origin` names the file and its
        SHA-256.

    Source: Klemmer et al. (AAAI 2025, arXiv 2311.17179).
    """
    path = Path(checkpoint)
    if Path(out).exists():
        raise FileExistsError(f"{out} exists: pass a new folder.")
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {path}: pass a SatCLIP checkpoint, .ckpt or .safetensors."
        )
    state, settings = read_weights(path)
    harmonics = settings.get("harmonics_calculation", "analytic")
    for key, value, known in [
        ("le_type", settings.get("le_type", "sphericalharmonics"), ("sphericalharmonics",)),
        ("pe_type", settings.get("pe_type", "siren"), ("siren",)),
        ("harmonics_calculation", harmonics, ("analytic", "closed-form")),
    ]:
        if value not in known:
            raise UnusableFile(
                f"{path} has {key} {value!r}; only {' or '.join(known)} can be converted."
            )
    weights, sizes = _location_weights(state, path)
    for key, size in _SIZES.items():
        if key in settings and settings[key] != sizes[size]:
            raise UnusableFile(
                f"{path} contradicts itself: its {key} is {settings[key]!r}, but its location "
                f"encoder's weights say {sizes[size]}. Fetch it again."
            )
    weights["0.weight"] = weights["0.weight"] * satclip_factors(sizes["degree"], harmonics)
    encoder = LocationEncoder(
        "spherical_harmonics",
        "siren",
        sizes["dim"],
        feature_options={"degree": sizes["degree"]},
        network_options={
            "hidden": sizes["hidden"],
            "layers": sizes["layers"],
            "w0_first": 30.0,
            "w0": 1.0,
        },
    ).double()
    encoder.network.load_state_dict(weights)
    encoder.origin = {
        "model": "SatCLIP",
        "source": "https://github.com/microsoft/satclip",
        "citation": "Klemmer et al., AAAI 2025, arXiv 2311.17179",
        "licence": "MIT",
        "harmonics": harmonics,
        "file": path.name,
        "sha256": sha256_of(path),
    }
    encoder.save(out)
    return encoder.eval()


def satclip_factors(degree: int, harmonics: str = "analytic") -> Tensor:
    """SatCLIP's harmonics divided by ours, column by column: (degree^2,) float64.

    (-1)^l, times pi where m = 0, for "analytic" harmonics; (-1)^(l + m) for "closed-form" ones.
    """
    ell = torch.arange(degree).repeat_interleave(2 * torch.arange(degree) + 1)
    m = torch.arange(degree**2) - ell**2 - ell
    if harmonics == "closed-form":
        return (-1.0) ** (ell + m).double()
    factors = (-1.0) ** ell.double()
    factors[m == 0] *= math.pi
    return factors


def _location_weights(
    state: Mapping[str, Tensor], path: Path
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """SatCLIP's SIREN under our names, in float64, and its sizes."""
    prefix = next((p for p in _PREFIXES if any(key.startswith(p) for key in state)), None)
    if prefix is None:
        raise UnusableFile(
            f"{path} holds no location encoder: no key begins with "
            f"{', '.join(_PREFIXES[:-1])} or {_PREFIXES[-1]}; it has {_some(state)}."
        )
    given = {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
    layers = 1 + max(
        (int(key.split(".")[1]) for key in given if re.fullmatch(r"layers\.\d+\.\w+", key)),
        default=0,
    )
    layers = min(layers, len(given))  # a number in a file must not fill the memory
    blocks = [f"layers.{i}" for i in range(layers)] + ["last_layer"]
    wanted = dict.fromkeys(f"{block}.{kind}" for block in blocks for kind in ("weight", "bias"))
    for problem, keys in [
        ("lacks", [key for key in wanted if key not in given]),
        ("has beside a SIREN", [key for key in given if key not in wanted]),
    ]:
        if keys:
            raise UnusableFile(f"{path} {problem} {_some(prefix + key for key in keys)}.")
    check_size(given, path)
    for key in wanted:
        if given[key].ndim != (2 if key.endswith("weight") else 1):
            raise UnusableFile(f"{path}: {prefix}{key} has shape {tuple(given[key].shape)}.")
    hidden, features = given["layers.0.weight"].shape
    dim, degree = len(given["last_layer.bias"]), math.isqrt(features)
    if degree**2 != features or not degree:
        raise UnusableFile(
            f"{path}: {prefix}layers.0.weight takes {features} features, not a square L², "
            "so they are not spherical harmonics."
        )
    weights = {}
    for index, block in enumerate(blocks):
        wide = features if index == 0 else hidden
        high = dim if block == "last_layer" else hidden
        for kind, shape in (("weight", (high, wide)), ("bias", (high,))):
            tensor = given[f"{block}.{kind}"]
            if tensor.shape != shape:
                raise UnusableFile(
                    f"{path}: {prefix}{block}.{kind} has shape {tuple(tensor.shape)}, expected "
                    f"{shape}."
                )
            if not tensor.isfinite().all():
                raise UnusableFile(
                    f"{path}: {prefix}{block}.{kind} has values that are not finite."
                )
            weights[f"{index}.{kind}"] = tensor.double()
    return weights, {"degree": degree, "layers": layers, "hidden": hidden, "dim": dim}


def _some(keys: Any) -> str:
    keys = [str(key) for key in keys]
    return ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")


class GeoCLIP(nn.Module):
    """GeoCLIP's pretrained location encoder, lonlat (N, 2) to (N, 512) float32.

    Code and weights come from the package ``geoclip`` 1.3.0. Its image encoder is not imported, so
    torchvision and transformers are not needed. GeoCLIP's own code takes latitude first.

    Source: Vivanco Cepeda, Nayak and Shah (NeurIPS 2023, arXiv 2309.16020).
    """

    weights_sha256 = "94b80ae3af89fca78539e129dd2929d321247f5ceeeb0a31bc2c31041a253394"

    def __init__(self) -> None:
        super().__init__()
        spec = importlib.util.find_spec("geoclip")  # finds the package without executing it
        if spec is None or not spec.submodule_search_locations:
            raise ImportError(f"GeoCLIP is not installed: {_INSTALL}")
        folder = Path(spec.submodule_search_locations[0]) / "model"
        weights = folder / "weights" / "location_encoder_weights.pth"
        if not weights.is_file():
            raise UnusableFile(f"{weights} is missing: {_INSTALL}")
        content = weights.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != self.weights_sha256:
            raise UnusableFile(
                f"{weights} is not the file of geoclip 1.3.0: its sha256 is {found}, expected "
                f"{self.weights_sha256}; {_INSTALL}"
            )
        self.encoder = _submodule(folder, "location_encoder").LocationEncoder(from_pretrained=False)
        self.encoder.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
        self.eval().requires_grad_(False)

    def forward(self, lonlat: Tensor) -> Tensor:
        """(N, 2) degrees, longitude then latitude, to (N, 512)."""
        embedding: Tensor = self.encoder(lonlat.float().flip(1))
        return embedding


_INSTALL = "run: pip install --no-deps geoclip==1.3.0"


def _submodule(folder: Path, name: str) -> ModuleType:
    """Import one module of a package's folder without the package's ``__init__``.

    The module's parent gets another name, so a later ``import geoclip`` still imports all of it.
    """
    package = ModuleType("_locties_geoclip")
    package.__path__ = [str(folder)]
    sys.modules[package.__name__] = package
    return importlib.import_module(f"{package.__name__}.{name}")


PEERS = Registry("peer", geoclip=GeoCLIP)
