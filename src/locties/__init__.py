"""locties: location encoders tied to several unpaired geospatial modalities.

Nothing is imported until it is asked for: using a trained encoder needs torch, numpy and
safetensors alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from locties.encoder import LocationEncoder, load
    from locties.evaluation import Task, evaluate
    from locties.grid import embed_grid
    from locties.harmonics import spherical_harmonics
    from locties.modalities import Modality
    from locties.own import read_modality, read_task
    from locties.training import pretrain

__version__ = "0.1.0"
__all__ = [
    "LocationEncoder",
    "Modality",
    "Task",
    "embed_grid",
    "evaluate",
    "load",
    "pretrain",
    "read_modality",
    "read_task",
    "spherical_harmonics",
]

_HOME = {
    "LocationEncoder": "locties.encoder",
    "Modality": "locties.modalities",
    "Task": "locties.evaluation",
    "embed_grid": "locties.grid",
    "evaluate": "locties.evaluation",
    "load": "locties.encoder",
    "pretrain": "locties.training",
    "read_modality": "locties.own",
    "read_task": "locties.own",
    "spherical_harmonics": "locties.harmonics",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'locties' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
