"""Folders of saved encoders: their files, and whether these are whole and fit together."""

import glob
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from locties import __version__
from locties._util import int8
from locties._util.files import UnusableFile
from locties._util.registry import unknown

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "card.md"
PUBLISHED = Path(__file__).parent / "published"
FORMAT, FORMAT_INT8 = 1, 2  # take a new number when older versions cannot read the folder
REPLACED = object()  # the stamp of a folder that a save has moved away
# Of `LocationEncoder`; the configuration holds them all, `OPTIONAL` ones where they were given.
ARGUMENTS = ["features", "network", "dim", "feature_options", "network_options", "seed", "readout"]
OPTIONAL = ["time", "nested"]


def published() -> list[str]:
    """Names of the encoders that come with locties, sorted."""
    return sorted(entry.name for entry in PUBLISHED.glob("*") if (entry / CONFIG).is_file())


def split_dim(name: str | os.PathLike[str]) -> tuple[str | os.PathLike[str], int | None]:
    """("mine", 64) of "mine:64"; the name itself and None if it ends in no number.

    A folder whose whole name is "mine:64" is taken as it is.
    """
    before, colon, digits = str(name).rpartition(":")
    if not (colon and digits.isdecimal()) or Path(name).is_dir():
        return name, None
    return Path(before) if isinstance(name, Path) else before, int(digits)


def is_encoder(name: str) -> bool:
    """Whether a name is that of a published encoder or a folder, with a dimension or without."""
    base = split_dim(name)[0]
    return base in published() or (bool(base) and Path(base).is_dir())


def find_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder of a published encoder, or the folder itself; a `Path` is always a folder.

    A published name always means the published encoder, even if there is a folder of that name.
    """
    if not isinstance(folder, str | os.PathLike):
        raise ValueError(f"an encoder is loaded by its name or folder, not from {folder!r}")
    path = Path(folder)
    if path.is_dir() and (isinstance(folder, Path) or str(folder) not in published()):
        return path
    if str(folder) in published():
        return PUBLISHED / str(folder)
    raise FileNotFoundError(
        f"there is no folder {str(folder)!r}; {unknown('published encoder', folder, published())} "
        "Or pass a folder written by LocationEncoder.save."
    )


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The configuration of a saved encoder, without reading its weights.

    It holds the constructor's arguments, ``origin``, ``sha256`` of the weights, ``config_sha256``
    of everything else, and ``locties``, the version that wrote them.
    """
    return read_config_in(find_folder(split_dim(folder)[0]))


def read_card(folder: str | os.PathLike[str]) -> str:
    """The model card of a saved encoder, in Markdown: its training, its scores, where it fails."""
    path = find_folder(split_dim(folder)[0])
    card = _read(path / CARD)
    _check_digest(path / CARD, card, read_config_in(path).get("card_sha256"))
    return card.decode()


def contents(
    state: Mapping[str, Any],
    arguments: Mapping[str, Any],
    origin: Mapping[str, Any],
    card: str,
    as_int8: Collection[str] = (),
) -> dict[str, bytes]:
    """The files of an encoder by name: its weights, its configuration, and its card if any.

    `as_int8` names the weights to write as int8.
    """
    plain = _plain(state)
    if any(plain[name].dtype != torch.float32 for name in as_int8):
        raise ValueError("as_int8=True, and the weights are float64: call encoder.float() first")
    weights = safetensors.torch.save(int8.pack(plain, as_int8))
    config = {
        "format": FORMAT_INT8 if as_int8 else FORMAT,
        "locties": __version__,
        **arguments,
        "origin": origin,
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    if card:
        config["card_sha256"] = hashlib.sha256(card.encode()).hexdigest()
    try:
        config["config_sha256"] = _digest(config)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"origin cannot be saved ({error}): pass plain values") from None
    files = {WEIGHTS: weights, CONFIG: (json.dumps(config, indent=2) + "\n").encode()}
    return files | ({CARD: card.encode()} if card else {})


def read_state(folder: Path, sha256: str) -> dict[str, Tensor]:
    """The weights in a folder, if they have this checksum and are finite."""
    path = folder / WEIGHTS
    content = _read(path)
    _check_digest(path, content, sha256)
    try:
        state: dict[str, Tensor] = safetensors.torch.load(content)
    except SafetensorError as error:
        raise UnusableFile(f"{path} is not a safetensors file: {error}") from error
    if name := _not_finite(state):
        raise UnusableFile(f"{path} holds numbers in {name!r} that are not finite.")
    try:
        return int8.unpack(state)
    except ValueError as error:
        raise UnusableFile(f"{path} is altered: {error}. Copy or save the encoder again.") from None


def stamp(folder: object) -> object:
    """A value that changes when a save replaces `folder`; `REPLACED` while it does."""
    if not isinstance(folder, str | os.PathLike):
        return None
    path = Path(folder)
    try:
        return path.stat().st_ino, path.stat().st_mtime_ns
    except OSError:
        asides = path.parent.glob(f".{glob.escape(path.name)}.*.old")
        return REPLACED if any(asides) else None


def check_replaceable(target: Path) -> None:
    """Refuse a folder of anything but an encoder."""
    if target.is_dir():
        others = sorted({entry.name for entry in target.iterdir()} - {WEIGHTS, CONFIG, CARD})
        if others:
            raise FileExistsError(
                f"{target} holds other files ({', '.join(others[:3])}): pass a new folder."
            )
    elif target.exists():
        raise FileExistsError(f"{target} is a file: pass a folder.")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing: {path.parent} is not a complete encoder. Copy or save it again."
        ) from None


def read_config_in(folder: Path) -> dict[str, Any]:
    """The configuration in a folder, checked."""
    path = folder / CONFIG
    content = _read(path)
    try:
        config = json.loads(content, object_pairs_hook=_without_repeats)
        found = _digest(config) if isinstance(config, dict) else None
    except (ValueError, RecursionError) as error:
        raise UnusableFile(f"{path} is truncated or altered: it is not JSON ({error}).") from None
    if not isinstance(config, dict) or not isinstance(config.get("origin", {}), dict):
        raise UnusableFile(f"{path} is altered: it, or its origin, is not a JSON object.")
    if config.get("format") not in (FORMAT, FORMAT_INT8):
        raise UnusableFile(
            f"{path} has format {config.get('format')!r}, written by locties "
            f"{config.get('locties', 'of unknown version')}; locties {__version__} reads formats "
            f"{FORMAT} and {FORMAT_INT8}. Update locties, or save the encoder again."
        )
    missing = sorted({"locties", "sha256", "config_sha256", *ARGUMENTS} - config.keys())
    if missing:
        raise UnusableFile(f"{path} lacks {', '.join(missing)}. Copy or save the encoder again.")
    if found != config["config_sha256"]:
        raise UnusableFile(
            f"{path} is altered: the sha256 of its content is {found}, but it says "
            f"{config['config_sha256']}. Copy or save the encoder again."
        )
    return config


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it names {repeated!r} twice")
    return content


def _digest(config: Mapping[str, Any]) -> str:
    """The sha256 of a configuration without its own checksum, whatever the file's layout."""
    content = {name: value for name, value in config.items() if name != "config_sha256"}
    plain = json.loads(json.dumps(content))  # as a file would return it
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _check_digest(path: Path, content: bytes, expected: str | None) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise UnusableFile(
            f"{path} is truncated or altered: its sha256 is {found}, but {CONFIG} says "
            f"{expected}. Copy or save the encoder again."
        )


def _plain(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state on the CPU. ValueError unless all of it is finite float32, or finite float64."""
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(f"{others[0]} is not a tensor, so this encoder cannot be saved")
    kinds = {value.dtype for value in state.values()}
    if not (kinds <= {torch.float32} or kinds == {torch.float64}):
        raise ValueError(
            f"the weights are {', '.join(sorted(map(str, kinds)))}, which cannot be saved: call "
            "encoder.float() or encoder.double() first."
        )
    if name := _not_finite(state):
        raise ValueError(f"weight {name!r} is not finite, so this encoder cannot be saved")
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}


def _not_finite(state: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or an infinite number."""
    return next((name for name, x in state.items() if not x.isfinite().all()), None)


def check_fit(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], folder: Path) -> None:
    """Refuse weights that are not those which the configuration in `folder` describes."""
    for name in sorted(wanted.keys() | given.keys()):
        there, here = _describe(given.get(name)), _describe(wanted.get(name))
        if there != here:
            raise UnusableFile(
                f"{folder / WEIGHTS} does not fit its {CONFIG}: tensor {name!r} is {there}, "
                f"expected {here}."
            )


def _describe(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{tensor.dtype} of shape {tuple(tensor.shape)}"
