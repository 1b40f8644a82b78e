"""The code behind a notebook: what its imports reach, and which changes count."""

import json
from pathlib import Path

import pytest

from locties_paper import dependencies
from locties_paper.site.notebook import REPOSITORY

SOURCES = {
    "lib/__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
    "    from lib.far import travel\n\ndef __getattr__(name): ...\n",
    "lib/far.py": "from . import near\n",
    "lib/near.py": '"""Near."""\n\ndef stay():\n    "Stays."\n    from lib.data import read\n',
    "lib/data/__init__.py": "from lib.data.read import read\n",
    "lib/data/read.py": "def read(): ...\n",
    "lib/data/table.yaml": "a: 1\n",
    "lib/alone.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import lib.near\n",
}
CODE = {"__init__.py", "near.py", "data/__init__.py", "data/read.py", "data/table.yaml"}


@pytest.fixture
def root(tmp_path) -> Path:
    for name, source in SOURCES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    return tmp_path


def names(root: Path, *start: str | Path, **options) -> set[str]:
    found = dependencies.files(*start, root=root, **options)
    return {path.relative_to(root / "lib").as_posix() for path in found}


def test_imports_are_followed_into_functions_and_package_data_is_included(root):
    assert names(root, "lib.near") == CODE


def test_imports_for_type_checking_do_not_count(root):
    assert names(root, "lib.alone") == {"__init__.py", "alone.py"}


@pytest.mark.parametrize(
    "source", ["import lib\nlib.travel()", "from lib import travel", "import lib as l\nl.far.x"]
)
def test_a_name_that_a_package_loads_lazily_counts_where_it_is_used(root, source):
    cells = [{"cell_type": "code", "source": ["%matplotlib inline\n", *source.splitlines(True)]}]
    cells.append({"cell_type": "markdown", "source": ["import lib.alone"]})
    notebook = root / "page.ipynb"
    notebook.write_text(json.dumps({"cells": cells}))
    assert names(root, notebook) == CODE | {"far.py"}
    assert names(root, notebook, without=["lib.near"]) == {"__init__.py", "far.py"}


def test_an_unknown_module_is_named(root):
    with pytest.raises(ValueError, match=r"lib\.farr"):
        dependencies.files("lib.farr", root=root)


@pytest.mark.parametrize(
    ("file", "old", "new", "counts"),
    [
        ("near.py", "Near.", "Reworded.", False),
        ("near.py", "Stays.", "Reworded.", False),
        ("near.py", "\n\ndef", "\n\n\n# A comment.\ndef", False),
        ("alone.py", "import", "from lib import data, ", False),
        ("near.py", "stay", "leave", True),
        ("data/read.py", "...", "return 1", True),
        ("data/table.yaml", "1", "2", True),
    ],
)
def test_the_digest_changes_with_code_and_data_alone(root, file, old, new, counts):
    before = dependencies.digest("lib.near", root=root)
    path = root / "lib" / file
    path.write_text(path.read_text().replace(old, new))
    assert (dependencies.digest("lib.near", root=root) != before) == counts


@pytest.mark.parametrize(("kind", "counts"), [("markdown", False), ("code", True)])
def test_a_notebooks_code_changes_its_digest_and_its_text_does_not(root, kind, counts):
    page = root / "page.ipynb"
    cells = [{"cell_type": each, "source": ["import lib"]} for each in ("markdown", "code")]
    page.write_text(json.dumps({"cells": cells}))
    before = dependencies.digest(page, root=root)
    next(cell for cell in cells if cell["cell_type"] == kind)["source"] += ["\n", "lib"]
    page.write_text(json.dumps({"cells": cells}))
    assert (dependencies.digest(page, root=root) != before) == counts


@pytest.mark.parametrize(
    ("notebook", "needed"),
    [
        ("pretrain", {"modalities.py", "training", "data/data_manifest.yaml", "harmonics.py"}),
        ("evaluate", {"apply/grid.py", "evaluation", "encoder.py", "data/public.py"}),
        ("maps", {"maps.py", "apply/grid.py"}),
        ("own_data", {"user_data.py", "apply/tables.py"}),
    ],
)
def test_the_books_notebooks_reach_what_they_use(notebook, needed):
    library = REPOSITORY / "src" / "locties"
    found = set(dependencies.files(REPOSITORY / "book" / f"{notebook}.ipynb"))
    for each in needed:
        path = library / each
        assert path in found or any(path in other.parents for other in found), each
