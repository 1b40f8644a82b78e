"""`import locties` costs nothing, and using an encoder needs torch, numpy and safetensors alone."""

import subprocess
import sys

import pytest

import locties

HEAVY = {"torch", "numpy", "safetensors", "pandas", "scipy", "sklearn", "matplotlib", "cartopy"}
HEAVY |= {"geopandas", "rasterio", "xarray", "zarr"}  # torch itself loads tqdm


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `code`."""
    script = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", script]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_package_loads_nothing_else() -> None:
    assert loaded_by("import locties") & HEAVY == set()


def test_an_encoder_loads_torch_numpy_and_safetensors_alone() -> None:
    loaded = loaded_by(
        "import locties, torch\n"
        "encoder = locties.LocationEncoder(features='xyz', network='linear', dim=2)\n"
        "encoder([[13.4, 52.5]])\n"
        "locties.embed_grid('melt', 90)\n"
        "locties.load, locties.spherical_harmonics, locties.export_grid"
    )
    assert {"torch", "numpy", "safetensors"} <= loaded
    assert loaded & (HEAVY - {"torch", "numpy", "safetensors"}) == set()


def test_a_published_encoder_needs_nothing_beyond_torch_numpy_and_safetensors() -> None:
    """What these bring along is theirs: an optional package that torch looks for, for one."""
    light = "import torch, numpy, safetensors.torch\n"
    used = (
        "import locties\n"
        "encoder = locties.load('melt')\n"
        "encoder([[13.4, 52.5]])\n"
        "locties.embed_grid(encoder, resolution=30)\n"
        "from locties.encoder import published, read_card\n"
        "published(), read_card('melt')\n"
    )
    more = loaded_by(light + used) - loaded_by(light) - set(sys.stdlib_module_names)
    assert more == {"locties"}


def test_a_published_encoder_loads_in_under_a_second() -> None:
    """Torch's import excluded; time of the processor, which a busy machine does not stretch."""
    script = (
        "import time, torch, locties\nstart = time.process_time()\nlocties.load('melt')\n"
        "print(time.process_time() - start)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1


@pytest.mark.parametrize("name", locties.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(locties, name).__doc__, f"locties.{name} is not documented"


def test_dir_lists_the_public_names_and_a_wrong_name_is_an_attribute_error() -> None:
    assert set(locties.__all__) <= set(dir(locties))
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = locties.lod


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("embed", "pandas", "own"), ("LocationFeatures", "sklearn", "sklearn")],
)
def test_a_name_whose_package_is_missing_says_what_to_install(name, package, extra):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        f"import locties\ntry:\n    locties.{name}\nexcept ImportError as error:\n    print(error)"
    )
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"locties.{name} needs {package}" in printed
    assert f'pip install "locties[{extra}]"' in printed
