"""Read weights from files of others, without running code in them."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from locties._util.files import UnusableFile

# What torch calls for a pickle even with weights_only, and what then takes memory at will.
_GREEDY = re.compile(rb"bytearray|\w+Tensor\n")


def read_weights(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """The tensors of a state dict by name, and the hyper-parameters beside it.

    The state dict may lie under the key "state_dict". A file without one, with code, or that would
    take more memory than its own size raises DataError.

    Args:
        path: a ``.safetensors`` file, or what ``torch.save`` wrote.
    """
    content = _content(path)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    items = state.items() if isinstance(state, Mapping) else ()
    tensors = {str(key): value for key, value in items if isinstance(value, Tensor)}
    if not tensors:
        raise UnusableFile(f"{path} holds no state dict, a dict of tensors by name.")
    for key, value in tensors.items():
        plain = value.layout == torch.strided and value.device.type == "cpu"
        if not plain or value.is_quantized or value.is_nested:
            raise UnusableFile(f"{path}: {key} is sparse, quantised or without values.")
    settings = content.get("hyper_parameters")
    return tensors, settings if isinstance(settings, Mapping) else {}


def check_size(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that share values: a small file would become many large tensors."""
    size = path.stat().st_size
    if sum(value.nbytes for value in tensors.values()) > size:
        largest = max(tensors, key=lambda key: tensors[key].nbytes)
        raise UnusableFile(
            f"{path} has {size:,} bytes, but its tensors have more: the largest, {largest}, "
            f"has shape {tuple(tensors[largest].shape)}. Fetch it again."
        )


def _content(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        _check_pickle(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about other protocols of pickle
            return torch.load(path, map_location="cpu", weights_only=True)
    # Unpickling random bytes can raise almost any exception.
    except Exception as error:
        text = str(error)
        if code := re.search(r"GLOBAL (\S+)|unrecognized function (.+)", text):
            raise UnusableFile(
                f"{path} holds more than weights ({code[1] or code[2]}) and is refused; nothing in "
                "it was executed. If you trust it, save only its state_dict and hyper_parameters."
            ) from None
        # torch's own message begins with advice to execute the file.
        reason = text.rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
        raise UnusableFile(
            f"{path} is not a checkpoint, or is truncated ({reason or type(error).__name__}). "
            "Fetch it again."
        ) from None


def _check_pickle(path: Path) -> None:
    """Refuse a pickle that could take more memory than the file has bytes."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > path.stat().st_size:
                raise ValueError("its members are larger than the file")
            pickles = [archive.read(m) for m in members if m.filename.endswith("data.pkl")]
    else:
        pickles = [path.read_bytes()]
    for pickle in pickles:
        if greedy := _GREEDY.search(pickle):
            raise ValueError(f"GLOBAL {greedy[0].decode().strip()}")
