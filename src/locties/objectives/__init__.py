"""Objectives: losses that tie the embeddings of locations to samples, by name.

To add one, write an `Objective` whose `forward` turns a `Batch` into a scalar, and
``OBJECTIVES["mine"] = Mine``. Parameters of an objective, such as a temperature, are learned.
"""

from locties._util.registry import Registry
from locties.objectives.base import NEGATIVES, Batch, Negatives, Objective, place_of
from locties.objectives.content import Decoder, content
from locties.objectives.contrastive import (
    DIRECTIONS,
    INITIAL_LOG_SCALE,
    LARGEST_LOG_SCALE,
    Direction,
    NTXent,
    SigLIP,
    nt_xent,
    nt_xent_formula,
    siglip,
)
from locties.objectives.fidelity import Fidelity, fidelity
from locties.objectives.nested import Nested
from locties.objectives.regression import Regression
from locties.objectives.vicreg import VICReg, vicreg

__all__ = [
    "DIRECTIONS",
    "INITIAL_LOG_SCALE",
    "LARGEST_LOG_SCALE",
    "NEGATIVES",
    "OBJECTIVES",
    "Batch",
    "Decoder",
    "Direction",
    "Fidelity",
    "NTXent",
    "Negatives",
    "Nested",
    "Objective",
    "Regression",
    "SigLIP",
    "VICReg",
    "content",
    "fidelity",
    "nt_xent",
    "nt_xent_formula",
    "place_of",
    "siglip",
    "vicreg",
]

OBJECTIVES = Registry(
    "objective",
    nt_xent=NTXent,
    siglip=SigLIP,
    vicreg=VICReg,
    fidelity=Fidelity,
    regression=Regression,
)
