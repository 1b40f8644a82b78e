"""Short hashes by which a run recognises its data and its initial weights."""

import hashlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from locties.modality import Modality


def digest(tensors: Iterable[Tensor]) -> str:
    """A hash of the bits of tensors, in their order."""
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()[:12]


def digests(modalities: Mapping[str, Modality], learned: nn.Module) -> dict[str, str]:
    """Of each modality's data, and of the initial weights."""
    data = {f"samples of {name}": _of_data(m) for name, m in modalities.items()}
    return {**data, "initial weights": digest(learned.state_dict().values())}


def _of_data(modality: Modality) -> str:
    """All locations and some samples at even distances, held-out ones too."""
    sets = [modality] if modality.validation is None else [modality, modality.validation]
    some = (m.samples[torch.arange(0, len(m.lonlat), 1 + len(m.lonlat) // 256)] for m in sets)
    return digest([*(m.lonlat for m in sets), *some])
