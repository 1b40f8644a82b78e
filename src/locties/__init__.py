"""locties: location encoders tied to several unpaired geospatial modalities.

Nothing is imported until it is asked for: using a trained encoder needs torch, numpy and
safetensors alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from locties.apply.export import export_grid
    from locties.apply.frames import embed
    from locties.apply.grid import embed_grid
    from locties.apply.sklearn import LocationFeatures
    from locties.encoder import LocationEncoder, load
    from locties.evaluation import Task, evaluate
    from locties.harmonics import spherical_harmonics
    from locties.modality import Modality
    from locties.own import read_modality, read_task
    from locties.training import pretrain

__version__ = "0.1.0"
__all__ = [
    "LocationEncoder",
    "LocationFeatures",
    "Modality",
    "Task",
    "embed",
    "embed_grid",
    "evaluate",
    "export_grid",
    "load",
    "pretrain",
    "read_modality",
    "read_task",
    "spherical_harmonics",
]

_HOME = {
    "LocationEncoder": "locties.encoder",
    "LocationFeatures": "locties.apply.sklearn",
    "Modality": "locties.modality",
    "Task": "locties.evaluation",
    "embed": "locties.apply.frames",
    "embed_grid": "locties.apply.grid",
    "evaluate": "locties.evaluation",
    "export_grid": "locties.apply.export",
    "load": "locties.encoder",
    "pretrain": "locties.training",
    "read_modality": "locties.own",
    "read_task": "locties.own",
    "spherical_harmonics": "locties.harmonics",
}

# The extra without which a name cannot even be imported.
_EXTRA = {"LocationFeatures": "sklearn", "embed": "own"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'locties' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        if name not in _EXTRA:
            raise
        raise ImportError(
            f'locties.{name} needs {error.name}: pip install "locties[{_EXTRA[name]}]"'
        ) from error


def __dir__() -> list[str]:
    return __all__
