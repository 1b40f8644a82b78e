"""The helpers of the book's notebooks: parameters and recorded values."""

import ast
import json
import re
import shlex

import nbformat
import pytest
import yaml
from click.testing import CliRunner, Result
from papermill.cli import papermill as command

from locties_paper.site import notebook

CELLS = ["", 'method = "melt"\nlearning_rate = 0.001\nseed = 0']
VALUES = {"method": "melt", "learning_rate": 0.001, "seed": 0}


def test_parameters_are_those_of_the_first_cell():
    assert notebook.parameters(CELLS, VALUES) == VALUES


def test_an_injected_parameter_counts():
    cells = [*CELLS, "# Parameters\nseed = 3\n"]
    assert notebook.parameters(cells, VALUES | {"seed": 3})["seed"] == 3


def test_an_unknown_parameter_names_the_nearest():
    cells = [*CELLS, "# Parameters\nlearning_rat = 0.1\n"]
    with pytest.raises(ValueError, match="'learning_rat': did you mean 'learning_rate'"):
        notebook.parameters(cells, VALUES | {"learning_rat": 0.1})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("seed = 3.0", "'seed' is 3.0, of type float: pass int"),
        ("seed = '3'", "'seed' is '3', of type str: pass int"),
        ("seed = True", "'seed' is True, of type bool: pass int"),
        ("method = None", "'method' is None"),
        ("method = ['melt']", "pass str, such as 'melt'"),
        ("learning_rate = '1e-3'", "pass float, such as 0.001"),
    ],
)
def test_a_value_of_another_type_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        notebook.parameters([*CELLS, f"# Parameters\n{given}\n"], VALUES)


@pytest.mark.parametrize("default", [["all", 50], [], {"degree": 10}, {}])
def test_text_for_a_list_names_the_option_that_passes_one(default):
    """papermill's -p turns `all,50` and `false` into text."""
    defaults = {"labels": default, "mlp": False}
    with pytest.raises(ValueError, match="with papermill: -y") as error:
        notebook.check_parameters(defaults, {"labels": "all,50"})
    given = yaml.safe_load(re.search(r"-y '(.*)'$", str(error.value))[1])
    notebook.check_parameters(defaults, given)
    for text in ("false", "no", "0", 0, None):
        with pytest.raises(ValueError, match="pass bool, such as False"):
            notebook.check_parameters(defaults, {"mlp": text})


@pytest.mark.slow
@pytest.mark.parametrize("typed", ["all,50", "50", "it's"])
def test_papermill_takes_the_proposed_option(typed, tmp_path):
    """The option passes what was meant: typed again in its place, the notebook runs."""
    cells = ["labels = ['all', 50]", "from locties_paper.site import notebook"]
    cells += ["print(notebook.parameters(In, globals())['labels'])"]
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    made.cells[0].metadata["tags"] = ["parameters"]
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(made, tmp_path / "in.ipynb")

    def papermill(*options: str) -> Result:
        files = [str(tmp_path / "in.ipynb"), str(tmp_path / "out.ipynb")]
        return CliRunner().invoke(command, [*files, *options])

    refused = papermill("-p", "labels", typed)
    assert refused.exit_code == 1
    remedy = re.findall(r"with papermill: (-y .*)$", str(refused.exception), re.MULTILINE)[-1]
    done = papermill(*shlex.split(remedy))
    assert done.exit_code == 0, done.output
    printed = nbformat.read(tmp_path / "out.ipynb", 4).cells[-1].outputs[0].text
    assert ast.literal_eval(printed) == {"all,50": ["all", 50], "50": [50]}.get(typed, [typed])


def test_a_whole_number_is_a_float_and_a_default_of_none_takes_anything():
    cells = ["rate = 0.1\noptions = None", "# Parameters\nrate = 1\noptions = {'a': 1}"]
    values = {"rate": 1, "options": {"a": 1}}
    assert notebook.parameters(cells, values) == values


def test_other_cells_may_assign_what_they_like():
    cells = [*CELLS, "settings = 1", "method = 'salt'"]
    assert set(notebook.parameters(cells, VALUES)) == set(VALUES)


def test_without_a_history_the_plain_globals_are_the_parameters():
    """nbval runs cells without keeping their sources."""
    values = {"In": [""], "Out": {}, "__name__": "__main__", "_oh": {}, "notebook": notebook}
    assert notebook.parameters([""], VALUES | values) == VALUES


@pytest.fixture
def record(tmp_path, monkeypatch):
    path = tmp_path / "recorded.json"
    monkeypatch.setattr(notebook, "RECORDED", path)
    monkeypatch.setenv("LOCTIES_RECORD", "1")
    notebook.report("page", {"seed": 0}, 0.02, loss=4.5)
    monkeypatch.delenv("LOCTIES_RECORD")
    return path


def test_the_recorded_value_is_printed_not_the_measured_one(record, capsys):
    capsys.readouterr()
    notebook.report("page", {"seed": 0}, 0.02, loss=4.512)
    assert capsys.readouterr().out == "loss: 4.500 ± 0.02 expected: within\n"


def test_a_value_off_the_record_is_said(record, capsys):
    capsys.readouterr()
    notebook.report("page", {"seed": 0}, 0.02, loss=4.6)
    assert capsys.readouterr().out == "loss: 4.500 ± 0.02 expected, but 4.600 measured\n"
    notebook.report("page", {"seed": 0}, 0.02, loss=float("nan"))
    assert "but nan measured" in capsys.readouterr().out


def test_other_parameters_are_not_on_record(record, capsys):
    capsys.readouterr()
    notebook.report("page", {"seed": 1}, 0.02, loss=4.5)
    assert capsys.readouterr().out == "loss: 4.500\n"
    assert json.loads(record.read_text())["page"]["parameters"] == {"seed": 0}
