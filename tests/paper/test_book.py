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

from locties.encoder import read_card
from locties_paper.site.notebook import REPOSITORY, split_names

BOOK = REPOSITORY / "book"
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))
HEART = ["pretrain", "evaluate", "maps"]
FOR_READERS = ["tour", "explorer", "models", "use", "command_line"]
IGNORED = "nbval-ignore-output"


def read(path: Path) -> list[dict]:
    return nbformat.read(path, as_version=4).cells


def code_cells(path: Path) -> list[dict]:
    return [cell for cell in read(path) if cell.cell_type == "code" and cell.source.strip()]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


def test_the_three_notebooks_are_there():
    assert set(HEART) <= {path.stem for path in NOTEBOOKS}


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


def test_parameters_come_first_and_are_checked_next(path):
    first, second = code_cells(path)[:2]
    assert first.metadata.tags[0] == "parameters"
    assert "notebook.parameters(In, globals())" in second.source


def test_what_sets_a_notebook_up_is_shown_to_those_who_run_it_again_alone(path):
    for cell in code_cells(path):
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags or "notebook.parameters(In" in cell.source:
            if path.stem in HEART:
                assert "remove-cell" not in tags, cell.source
            elif path.stem in FOR_READERS:
                assert "remove-cell" in tags, cell.source
        elif path.stem in FOR_READERS and re.search(r"^glue\(", cell.source, re.M):
            assert {"remove-cell", "hide-input"} & set(tags), cell.source


def test_no_path_of_a_machine_is_in_it(path):
    text = path.read_text()
    for pattern in (r"/(home|root|Users|tmp)/\w", r"[A-Z]:\\\\Users"):
        assert not re.search(pattern, text), f"{pattern} in {path.name}"
    assert str(REPOSITORY) not in text


def test_figures_have_captions_names_and_alt_text(path):
    for cell in code_cells(path):
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            shown = cell.metadata["mystnb"]
            assert len(shown["figure"]["caption"]) > 20, cell.source
            assert shown["figure"]["name"].startswith("fig-")
            assert len(shown["image"]["alt"]) > 30


def test_the_kernel_is_the_plain_one(path):
    assert nbformat.read(path, as_version=4).metadata.kernelspec.name == "python3"


def test_the_record_is_of_the_committed_parameters():
    recorded = json.loads((BOOK / "recorded.json").read_text())
    for name, entry in recorded.items():
        known = papermill.inspect_notebook(str(BOOK / f"{name}.ipynb"))
        assert set(entry["parameters"]) == set(known), name


def test_the_explorer_says_what_its_baseline_learned_from():
    """In its title, which stands above its map and list, and is read to those who see neither."""
    known = papermill.inspect_notebook(str(BOOK / "explorer.ipynb"))
    encoders, titles = (
        split_names(ast.literal_eval(known[key]["default"])) for key in ("encoders", "titles")
    )
    title = dict(zip(encoders, titles, strict=True))["clip"]
    assert title == "clip (place names)"
    assert "Trained on toponyms by the two-modality baseline" in read_card("clip")
    text = " ".join(cell.source for cell in read(BOOK / "explorer.ipynb"))
    assert "two-modality baseline" in text
    assert "(toponyms)" in text
    assert f"in MELT, SALT, {title}: one map each" in (BOOK / "explorer.ipynb").read_text()


def test_the_tour_explains_its_words():
    """It is for readers without background: each word stands in italics where it is explained."""
    text = "\n".join(
        cell.source for cell in read(BOOK / "tour.ipynb") if cell.cell_type == "markdown"
    )
    explained = ("embedding", "modality", "unpaired", "MELT", "SALT", "labels", "R²", "biome")
    for word in (*explained, "accuracy", "raw coordinates"):
        first = re.search(rf"\b{word}\b", text)
        assert first, word
        assert text[first.start() - 1] + text[first.end()] == "**", f"{word} is used before"
    assert len(text.split()) < 620, "one page"


def test_every_parameter_of_every_profile_is_known():
    study = yaml.safe_load((REPOSITORY / "experiments.yaml").read_text())
    for profile, settings in study["profiles"].items():
        for name in (*HEART, "data"):
            known = papermill.inspect_notebook(str(BOOK / f"{name}.ipynb"))
            unknown = set(settings[name]) - set(known)
            assert not unknown, f"{profile}.{name}: {unknown}"


@pytest.mark.data
@pytest.mark.parametrize("name", HEART)
def test_a_misspelt_parameter_stops_in_the_first_cell(name, tmp_path):
    out = tmp_path / "out.ipynb"
    with pytest.raises(papermill.PapermillExecutionError, match="did you mean 'seed'"):
        papermill.execute_notebook(
            BOOK / f"{name}.ipynb", out, {"sead": 1}, progress_bar=False, log_output=False
        )
    ran = [cell for cell in code_cells(out) if cell.execution_count]
    assert len(ran) <= 4, "it stopped before any work"


def pretrain(tmp_path, **parameters) -> Path:
    out = tmp_path / "run"
    papermill.execute_notebook(
        BOOK / "pretrain.ipynb",
        tmp_path / "out.ipynb",
        {"output": str(out), "pairs": 512, "batch": 64, "epochs": 2, "samples": 200, **parameters},
        progress_bar=False,
    )
    return out


@pytest.mark.data
@pytest.mark.slow
def test_papermill_trains_salt_on_two_modalities(tmp_path):
    out = pretrain(tmp_path, method="salt", modalities="imagery,climate")
    settings = json.loads((out / "settings.json").read_text())
    assert settings["schedule"] == "salt"
    assert settings["modalities"] == ["imagery", "climate"]
    assert (out / "encoder" / "model.safetensors").exists()


@pytest.mark.data
@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("method", ["melt", "salt"])
def test_papermill_trains_on_a_gpu(tmp_path, method):
    out = pretrain(tmp_path, method=method, device="cuda")
    settings = json.loads((out / "settings.json").read_text())
    assert settings["device"] == torch.cuda.get_device_name()
