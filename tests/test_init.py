"""`import locties` costs nothing, and what is not installed is named with its pip command."""

import ast
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


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `code`."""
    script = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(run(script).split())


def test_importing_the_package_loads_nothing_else() -> None:
    assert loaded_by("import locties; dir(locties)") & HEAVY == set()


def test_a_published_encoder_needs_nothing_beyond_torch_numpy_and_safetensors() -> None:
    """What these bring along is theirs: an optional package that torch looks for, for one."""
    light = "import torch, numpy, safetensors.torch\n"
    used = (
        "import locties\n"
        "encoder = locties.load('melt')\n"
        "encoder([[13.4, 52.5]])\n"
        "locties.embed_grid(encoder, resolution=30)\n"
        "locties.published(), locties.read_card('melt')\n"
        "locties.spherical_harmonics, locties.export_grid, locties.Modality, locties.FEATURES\n"
    )
    more = loaded_by(light + used) - loaded_by(light) - set(sys.stdlib_module_names)
    assert more == {"locties"}


def test_a_published_encoder_loads_in_under_a_second() -> None:
    """Torch's import excluded; time of the processor, which a busy machine does not stretch."""
    script = (
        "import time, torch, locties\nstart = time.process_time()\nlocties.load('melt')\n"
        "print(time.process_time() - start)"
    )
    assert float(run(script)) < 1


@pytest.mark.parametrize("name", locties.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(locties, name) is not None
    assert name in dir(locties)


def test_submodules_are_imported_when_they_are_first_used() -> None:
    printed = run("import locties; print(*locties.features.FEATURES, locties.maps.__name__)")
    assert "spherical_harmonics" in printed.split()
    assert printed.split()[-1] == "locties.maps"
    assert {"features", "maps", "user_data"} <= set(dir(locties))
    assert locties.FEATURES is locties.features.FEATURES


def test_a_wrong_name_is_an_attribute_error() -> None:
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
    "fit_probe": "locties.fit_probe('melt', 'elevation')",
    "load": "locties.load('melt')",
    "pretrain": "locties.pretrain('melt', ['climate', 'relief'], pairs=8, batch=4)",
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


def test_without_any_extra_every_name_works_or_says_what_to_install(tmp_path: Path) -> None:
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


def unguarded(path: Path) -> list[str]:
    """Imports of optional packages for which no extra that brings them is named."""
    found = []

    def visit(node: ast.AST, named: set[str]) -> None:
        for child in ast.iter_child_nodes(node):
            here = named
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.With):
                for call in (item.context_expr for item in child.items):
                    match call:
                        case ast.Call(ast.Name("needs"), [ast.Constant(extra), _]):
                            here = here.union(*(EXTRAS[name] for name in extra.split(",")))
            if isinstance(child, ast.Import):
                modules = [alias.name for alias in child.names]
            else:
                modules = [child.module or ""] if isinstance(child, ast.ImportFrom) else []
            for module in {name.partition(".")[0] for name in modules} & OPTIONAL - here:
                found.append(f"{path.relative_to(LIBRARY)}:{child.lineno} {module}")
            visit(child, here)

    # The packages of these rooms name the extras around all that they import.
    study = EXTRAS["data"] | EXTRAS["study"]
    rooms = {"evaluation": study, "training": study, "cli": EXTRAS["cli"]}
    visit(ast.parse(path.read_text()), {"filelock"} | rooms.get(path.parent.name, set()))
    return found


def test_every_optional_import_names_the_extra_that_brings_it() -> None:
    assert [line for path in sorted(LIBRARY.rglob("*.py")) for line in unguarded(path)] == []
