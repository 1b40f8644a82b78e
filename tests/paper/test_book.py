"""The committed notebooks as files: executed, compared, free of faults and of machine paths."""

import ast
import json
import re
from pathlib import Path

import nbformat
import papermill
import pytest
import torch
import yaml

from locties_paper.site.notebook import REPOSITORY, check_parameters

BOOK = REPOSITORY / "book"
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))
PROFILES = yaml.safe_load((REPOSITORY / "experiments.yaml").read_text())
IGNORED = "nbval-ignore-output"


def read(path: Path) -> list[dict]:
    return nbformat.read(path, as_version=4).cells


def code_cells(path: Path) -> list[dict]:
    return [cell for cell in read(path) if cell.cell_type == "code" and cell.source.strip()]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


def test_every_code_cell_is_executed_in_order(path):
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1)), "run `make notebooks`"


def test_output_is_compared(path):
    """nbval compares nothing in cells without output, or tagged to be ignored."""
    compared = [
        cell
        for cell in code_cells(path)
        if IGNORED not in cell.metadata.get("tags", [])
        and any(output.output_type == "stream" for output in cell.outputs)
    ]
    assert compared, "no printed output of this notebook is compared"
    text = "".join(output.text for cell in compared for output in cell.outputs if "text" in output)
    assert re.search(r"within|True|none", text), text
    assert "but" not in text, f"a value was off its record when this was committed: {text}"


def test_no_cell_failed_or_warned(path):
    for cell in code_cells(path):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            if output.get("name") == "stderr":
                tags = cell.metadata.get("tags", [])
                assert "remove-stderr" in tags, f"stderr would show in the book: {output.text}"
                assert "Warning" not in output.text, output.text


def test_every_cell_with_a_caption_has_a_figure(path):
    for cell in code_cells(path):
        if "figure" in cell.metadata.get("mystnb", {}):
            kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
            assert "image/png" in kinds, f"run it again without MPLBACKEND: {cell.source}"


def test_no_path_of_a_machine_is_in_it(path):
    text = path.read_text()
    for pattern in (r"/(home|root|Users|tmp)/\w", r"[A-Z]:\\\\Users"):
        assert not re.search(pattern, text), f"{pattern} in {path.name}"
    assert str(REPOSITORY) not in text


@pytest.mark.slow
def test_a_misspelt_parameter_stops_in_the_first_cell(tmp_path):
    out = tmp_path / "out.ipynb"
    with pytest.raises(papermill.PapermillExecutionError, match="did you mean 'seed'"):
        papermill.execute_notebook(
            BOOK / "pretrain.ipynb", out, {"sead": 1}, progress_bar=False, log_output=False
        )
    ran = [cell for cell in code_cells(out) if cell.execution_count]
    assert len(ran) <= 4, "it stopped before any work"


@pytest.mark.parametrize("profile", PROFILES)
def test_every_parameter_of_every_profile_is_one_of_its_notebook(profile):
    for name, values in PROFILES[profile].items():
        known = papermill.inspect_notebook(str(BOOK / f"{name}.ipynb"))
        defaults = {key: ast.literal_eval(each["default"]) for key, each in known.items()}
        check_parameters(defaults, values, f"parameter of {name}.ipynb")


@pytest.mark.data
@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("method", ["melt", "salt"])
def test_papermill_trains_on_a_gpu(tmp_path, method):
    small = {"pairs": 512, "batch": 64, "epochs": 2, "samples": 200}
    papermill.execute_notebook(
        BOOK / "pretrain.ipynb",
        tmp_path / "out.ipynb",
        {"output": str(tmp_path / "run"), "method": method, "device": "cuda", **small},
        progress_bar=False,
    )
    settings = json.loads((tmp_path / "run/settings.json").read_text())
    assert settings["device"] == torch.cuda.get_device_name()


def test_every_work_that_a_page_cites_has_one_entry():
    text = (BOOK / "references.bib").read_text()
    keys = re.findall(r"^@\w+\{([\w-]+),", text, re.MULTILINE)
    assert len(keys) == len(set(keys)), sorted({key for key in keys if keys.count(key) > 1})
    pages = [path.read_text() for kind in ("*.md", "*.ipynb") for path in BOOK.glob(kind)]
    cited = {
        key.strip()
        for page in pages
        for group in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", page)
        for key in group.split(",")
    }
    assert cited <= set(keys), sorted(cited - set(keys))
