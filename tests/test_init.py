"""`import locties` costs nothing, and what is not installed is named with its pip command."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import locties

REPOSITORY = Path(__file__).parents[1]
LIBRARY = Path(locties.__file__).parent
HEAVY = {"torch", "numpy", "safetensors", "pandas", "scipy", "sklearn", "matplotlib", "cartopy"}
HEAVY |= {"geopandas", "rasterio", "xarray", "zarr"}  # torch itself loads tqdm


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def loaded_by(code, before=""):
    """The packages that `code` loads in a fresh interpreter, beyond those of `before`."""
    names = "{name.partition('.')[0] for name in sys.modules}"
    script = f"import sys\n{before}\nold = {names}\n{code}\nprint(*{names} - old)"
    return set(run(script).split())


def test_importing_the_package_loads_nothing_else():
    assert loaded_by("import locties; dir(locties)") & HEAVY == set()


def test_a_published_encoder_needs_torch_numpy_and_safetensors_alone_and_loads_in_a_second():
    """What these bring along is theirs, so it is imported first."""
    used = (
        "import locties, time\n"
        "start = time.process_time()\n"  # which a busy machine does not stretch
        "encoder = locties.load('melt')\n"
        "assert time.process_time() - start < 1\n"
        "encoder([[13.4, 52.5]])\n"
        "assert 'spherical_harmonics' in locties.features.FEATURES\n"
        "locties.embed_grid(encoder, resolution=30)\n"
        "locties.published(), locties.read_card('melt')\n"
        "locties.spherical_harmonics, locties.export_grid, locties.Modality, locties.FEATURES\n"
    )
    more = loaded_by(used, before="import torch, numpy, safetensors.torch")
    assert more - set(sys.stdlib_module_names) == {"locties"}


@pytest.mark.parametrize("name", locties.__all__)
def test_every_public_name_is_there(name):
    assert getattr(locties, name) is not None
    assert name in dir(locties)


def test_submodules_are_attributes():
    assert {"features", "maps", "user_data"} <= set(dir(locties))
    assert locties.FEATURES is locties.features.FEATURES


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = locties.lod


# ---------------------------------------------------------------------------------- light install

MODULES = {
    "basemap-data": "mpl_toolkits",
    "lightning-fabric": "lightning_fabric",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
}


def extras() -> dict[str, set[str]]:
    """The modules that each extra of pyproject.toml brings."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    found = {}
    for extra, requirements in project["optional-dependencies"].items():
        names = [re.match(r"[\w-]+", requirement)[0] for requirement in requirements]
        found[extra] = {MODULES.get(name, name.replace("-", "_")) for name in names}
    return found


EXTRAS = extras()
OPTIONAL = set().union(*EXTRAS.values())
# How each public name is used; what is not here is used by being looked up.
USES = {
    "FEATURES": "[make() for make in locties.FEATURES.values()]",
    "NETWORKS": "[make(4, 2) for make in locties.NETWORKS.values()]",
    "OBJECTIVES": "[make() for make in locties.OBJECTIVES.values()]",
    "MODALITIES": "[make(8, 0, 2) for make in locties.MODALITIES.values()]",
    "TASKS": "[make(8) for make in locties.TASKS.values()]",
    "EmbeddingTable": "locties.EmbeddingTable(folder + '/a.parquet')",
    "LocationEncoder": "locties.LocationEncoder('xyz', 'linear', 2)([[1, 2]])",
    "LocationFeatures": "locties.LocationFeatures('melt').fit_transform([[1, 2]])",
    "Modality": "locties.Modality('rain', [[1, 2]], torch.ones(1, 2), lambda dim: None)",
    "Task": "locties.Task('ph', [[1, 2], [3, 4]], [5, 6])",
    "embed": "locties.embed('melt', [[1, 2]])",
    "embed_grid": "locties.embed_grid('melt', 90)",
    "evaluate": "locties.evaluate('melt', ['elevation'])",
    "export_grid": "locties.export_grid('melt', folder + '/melt.zarr', 90)",
    "export_grid, GeoTIFF": "locties.export_grid('melt', folder + '/melt.tif', 90)",
    "embed_grid, xarray": "locties.embed_grid('melt', 90).to_xarray()",
    "fit_map": "locties.fit_map('melt', locties.Task('ph', [[1, 2], [3, 4]], [5, 6]))",
    "LocationClassifier": "locties.LocationClassifier()",
    "LocationMap": "locties.LocationMap",
    "LocationRegressor": "locties.LocationRegressor()",
    "fit_probe": "locties.fit_probe('melt', 'elevation')",
    "load": "locties.load('melt')",
    "pretrain": "locties.pretrain('melt', ['rain', 'relief'], pairs=8, batch=4)",
    "published": "locties.published()",
    "read_card": "locties.read_card('melt')",
    "read_modality": "locties.read_modality(folder + '/a.tif', name='a')",
    "read_task": "locties.read_task(folder + '/a.parquet', 'ph')",
    "spherical_harmonics": "locties.spherical_harmonics([[1, 2]], 3)",
}
BLOCKED = """
import json, sys, torch
from importlib import import_module

class Block:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

blocked, uses, modules, folder = json.loads(sys.argv[1])
for name in [name for name in sys.modules if name.partition(".")[0] in blocked]:
    del sys.modules[name]
sys.meta_path.insert(0, Block)

import locties
said = {}

def attempt(name, use):
    try:
        use()
        said[name] = "works"
    except Exception as error:
        said[name] = f"{type(error).__name__}: {error}"

for name, use in uses.items():
    attempt(name, lambda: eval(use))
for module in modules:
    attempt(module, lambda: import_module(module))
print(json.dumps(said))
"""


@pytest.mark.slow
def test_without_any_extra_every_name_works_or_says_what_to_install(tmp_path):
    assert {name.partition(",")[0] for name in USES} == set(locties.__all__)
    files = [path.relative_to(LIBRARY.parent).with_suffix("") for path in LIBRARY.rglob("*.py")]
    modules = [".".join(file.parts) for file in files if "cli" not in file.parts]
    blocked = sorted(OPTIONAL - {"filelock"})  # which torch brings
    said = json.loads(run(BLOCKED, json.dumps([blocked, USES, modules, str(tmp_path)])))
    for name, outcome in said.items():
        if outcome != "works":
            found = re.match(
                r'ModuleNotFoundError: .+ needs (\w+)[.\w]*: pip install "locties\[([\w,]+)\]"$',
                outcome,
            )
            assert found, f"{name}: {outcome}"
            assert found[1] in set().union(*(EXTRAS[extra] for extra in found[2].split(",")))
    light = {"LocationEncoder", "Modality", "embed_grid", "load", "published", "read_card"}
    light |= {"FEATURES", "NETWORKS", "OBJECTIVES", "spherical_harmonics", "locties.lonlat"}
    assert light <= {name for name, outcome in said.items() if outcome == "works"}
