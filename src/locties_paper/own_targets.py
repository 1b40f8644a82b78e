"""Two targets for each modality, computed from its own values, which only it holds.

They show what joint training erases. Their places lie in cells of about 50 km in which no modality
of the study trains: the cells of night lights.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from locties import Task
from locties.apply.metadata import Encoder
from locties.data.embedded import load
from locties.data.sampling import OWNERS, land_lonlat, owner
from locties.evaluation.leakage import raw_values
from locties.evaluation.raw import Raw
from locties.modality import PATCH, Modality, text_encoder, tokenise

FREE = "night_lights"  # the modality that owns the cells
LATIN, VOWELS = "LATIN", "aeiouy"


def brightness(lonlat: Tensor) -> Tensor:
    """Mean of a patch of imagery over pixels and colours, 0 to 1."""
    return _imagery(lonlat).mean((1, 2, 3))


def texture(lonlat: Tensor) -> Tensor:
    """Log of the standard deviation of grey within a patch. Below 0.001 it counts as 0.001."""
    return _imagery(lonlat).mean(1).flatten(1).std(1).clamp_min(1e-3).log()


def height(lonlat: Tensor) -> Tensor:
    """Mean altitude of a patch of relief, km."""
    return _relief(lonlat).mean((1, 2)) / 1000


def roughness(lonlat: Tensor) -> Tensor:
    """Log of one plus the standard deviation of altitude within a patch, m."""
    return _relief(lonlat).flatten(1).std(1).log1p()


def season(months: Tensor) -> Tensor:
    """From months (N, 12): the mean of April to September minus that of the others, (N,).

    Example:
        >>> season(torch.tensor([[0.0, 0, 0, 3, 3, 3, 3, 3, 3, 1, 1, 1]]))
        tensor([2.5000])
    """
    return months[:, 3:9].mean(1) - torch.cat([months[:, :3], months[:, 9:]], dim=1).mean(1)


def script(names: Sequence[str]) -> str:
    """The commonest script other than Latin in the names of a place; Latin if there is none.

    Example:
        >>> script(["Drozhzhino", "Дрожжино"]), script(["Branston"])
        ('CYRILLIC', 'LATIN')
    """
    letters = filter(str.isalpha, "".join(names))
    count = Counter(unicodedata.name(letter, LATIN).split()[0] for letter in letters)
    del count[LATIN]
    return count.most_common(1)[0][0] if count else LATIN


def ending(names: Sequence[str]) -> str:
    """Whether the first name of a place ends in a vowel; accents do not count.

    Example:
        >>> ending(["Piandimeleto"]), ending(["Santa Fé"]), ending(["Branston"])
        ('vowel', 'vowel', 'other')
    """
    letters = filter(str.isalpha, unicodedata.normalize("NFKD", names[0].lower()))
    return "vowel" if "".join(letters)[-1:] in tuple(VOWELS) else "other"


def _imagery(lonlat: Tensor) -> Tensor:
    return load().imagery.patches(lonlat, PATCH) / 255


def _relief(lonlat: Tensor) -> Tensor:
    return load().relief.patches(lonlat, PATCH)[:, 0]


def _rain(lonlat: Tensor) -> Tensor:
    return load().rain.sample(lonlat).clamp_min(0).log1p()


def _haze(lonlat: Tensor) -> Tensor:
    return load().haze.sample(lonlat)


# A number for each place (N, 2) on land. A name begins with the name of its modality.
OF_RASTERS: dict[str, Callable[[Tensor], Tensor]] = {
    "imagery_brightness": brightness,
    "imagery_texture": texture,
    "rain_level": lambda lonlat: _rain(lonlat).mean(1),  # log(1 + mm)
    "rain_season": lambda lonlat: season(_rain(lonlat)),
    "haze_level": lambda lonlat: _haze(lonlat).mean(1),  # Linke turbidity
    "haze_season": lambda lonlat: season(_haze(lonlat)),
    "relief_height": height,
    "relief_roughness": roughness,
}
# A class for the names of a place.
OF_NAMES: dict[str, Callable[[Sequence[str]], str]] = {
    "toponyms_script": script,
    "toponyms_ending": ending,
}


def of_raster(name: str, points: int, draw: int) -> Task:
    """A target in `OF_RASTERS`, at places uniform by area on land."""
    lonlat = land_lonlat(load(), points, torch.Generator().manual_seed(draw), owned_by=FREE)
    return Task(name, lonlat, OF_RASTERS[name](lonlat).numpy(), tier="own")


def of_names(name: str, points: int, draw: int) -> Task:
    """A target in `OF_NAMES`, at places of the gazetteer."""
    places, free = load().places, _free_places()
    generator = torch.Generator().manual_seed(draw)
    drawn = free[torch.randperm(len(free), generator=generator)[:points]]
    classes = np.array([OF_NAMES[name](places.names[i]) for i in drawn.tolist()])
    return Task(name, places.lonlat[drawn], classes, "classification", tier="own")


OWN: dict[str, Callable[[int, int], Task]] = {
    **{name: partial(of_raster, name) for name in OF_RASTERS},
    **{name: partial(of_names, name) for name in OF_NAMES},
}


def modality_of(target: str) -> str:
    """The modality that a target belongs to."""
    return target.partition("_")[0]


def own_values(modality: str) -> Encoder:
    """The values of one modality at each place: its own targets can be predicted best from these.

    Toponyms are the names of the nearest place in the cells of night lights.
    """
    if modality != "toponyms":
        return Raw([modality])
    places, free = load().places, _free_places()
    names = tokenise([places.names[i] for i in free.tolist()])
    return raw_values(Modality(modality, places.lonlat[free], names, text_encoder()))


def _free_places() -> Tensor:
    """The rows of `Places` in free cells."""
    return (owner(load().places.lonlat) == OWNERS.index(FREE)).nonzero()[:, 0]
