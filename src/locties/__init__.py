"""locties: location encoders tied to several unpaired geospatial modalities.

Names and submodules are imported on first use, so a trained encoder needs only torch, numpy and
safetensors.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from locties import cli as cli
    from locties import maps as maps
    from locties.apply.embedding_table import EmbeddingTable
    from locties.apply.export import export_grid
    from locties.apply.frames import embed
    from locties.apply.grid import embed_grid
    from locties.apply.sklearn import LocationFeatures
    from locties.encoder import LocationEncoder, load
    from locties.evaluation import TASKS, Task, evaluate, fit_probe
    from locties.features import FEATURES
    from locties.harmonics import spherical_harmonics
    from locties.mapping import LocationClassifier, LocationMap, LocationRegressor, fit_map
    from locties.modalities import MODALITIES
    from locties.modality import Modality
    from locties.networks import NETWORKS
    from locties.objectives import OBJECTIVES
    from locties.saved import published, read_card
    from locties.training import pretrain
    from locties.user_data import read_modality, read_task

__version__ = "0.1.0"
__all__ = [
    "FEATURES",
    "MODALITIES",
    "NETWORKS",
    "OBJECTIVES",
    "TASKS",
    "EmbeddingTable",
    "LocationClassifier",
    "LocationEncoder",
    "LocationFeatures",
    "LocationMap",
    "LocationRegressor",
    "Modality",
    "Task",
    "embed",
    "embed_grid",
    "evaluate",
    "export_grid",
    "fit_map",
    "fit_probe",
    "load",
    "pretrain",
    "published",
    "read_card",
    "read_modality",
    "read_task",
    "spherical_harmonics",
]

_HOME = {
    "FEATURES": "features",
    "MODALITIES": "modalities",
    "NETWORKS": "networks",
    "OBJECTIVES": "objectives",
    "TASKS": "evaluation",
    "EmbeddingTable": "apply.embedding_table",
    "LocationClassifier": "mapping",
    "LocationEncoder": "encoder",
    "LocationFeatures": "apply.sklearn",
    "LocationMap": "mapping",
    "LocationRegressor": "mapping",
    "Modality": "modality",
    "Task": "evaluation",
    "embed": "apply.frames",
    "embed_grid": "apply.grid",
    "evaluate": "evaluation",
    "export_grid": "apply.export",
    "fit_map": "mapping",
    "fit_probe": "evaluation",
    "load": "encoder",
    "pretrain": "training",
    "published": "saved",
    "read_card": "saved",
    "read_modality": "user_data",
    "read_task": "user_data",
    "spherical_harmonics": "harmonics",
}


def _submodules() -> list[str]:
    return [module.name for module in iter_modules(__path__) if not module.name.startswith("_")]


if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> Any:
        if name in _HOME:
            return getattr(import_module(f"locties.{_HOME[name]}"), name)
        if name in _submodules():
            return import_module(f"locties.{name}")
        raise AttributeError(f"module 'locties' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_submodules()})
