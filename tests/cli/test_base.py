"""What all commands share: help, one line for each error, exit codes, and missing packages."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from typer.main import get_command
from typer.testing import CliRunner, Result

import locties
from locties import __version__
from locties.cli import app
from locties.cli.base import EXIT_CODES, Command
from locties.data import embedded
from locties.data.manifest import DataError
from locties.evaluation import TASKS

REPOSITORY = Path(__file__).parents[2]
runner = CliRunner()


def run(*arguments: str | Path, **options: object) -> Result:
    return runner.invoke(app, [str(argument) for argument in arguments], **options)


def commands() -> Iterator[tuple[str, ...]]:
    """Every command and group, as the words after `locties`."""

    def below(group: object, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        for name, command in getattr(group, "commands", {}).items():
            yield from below(command, (*path, name))

    return below(get_command(app), ())


def command_at(path: tuple[str, ...]) -> object:
    """A command or group of `commands`."""
    command = get_command(app)
    for name in path:
        command = command.commands[name]
    return command


def test_version():
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"locties {__version__}\n")


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_help_gives_an_example_that_is_understood(path):
    shown = " ".join(run(*path, "--help", env={"COLUMNS": "200"}).stdout.split())
    assert "Example: locties" in shown
    assert getattr(command_at(path), "commands", None) or EXIT_CODES in shown
    examples = re.findall(r"Example: `locties (.*?)`", " ".join(command_at(path).help.split()))
    assert examples
    for example in examples:
        words = shlex.split(re.split(r" [<>|] ", example)[0])
        context = get_command(app).make_context("locties", list(words))
        assert tuple(words[: len(path)]) == path
        while getattr(context.command, "commands", None):
            name, found, words = context.command.resolve_command(context, words)
            context = found.make_context(name, words, parent=context)
        assert isinstance(context.command, Command)


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["evalute"], "Did you mean 'evaluate'"),
        (["data", "ftech"], "Did you mean 'fetch'"),
        (["evaluate", "metl"], "did you mean 'melt'"),
        (["evaluate", "melt+xzy", "--tasks", "elevation"], "did you mean 'xyz'"),
        (["evaluate", "xyz", "--tasks", "elevatio"], "did you mean 'elevation'"),
        (["evaluate", "xyz", "--tier", "opne"], "did you mean 'open'"),
        (["evaluate", "xyz", "--target", "ph"], "--points-file FILE --target COLUMN"),
        (["embed", "metl"], "did you mean 'melt'"),
        (["embed", "melt", "--output", "x.csb"], "x.csb is not a table"),
        (["embed", "melt", "--grid", "1"], "--output FILE.zarr or FILE.tif"),
        (["embed", "melt", "--invalid", "dorp"], "did you mean 'drop'"),
        (["info", "metl"], "did you mean 'melt'"),
        (["data", "list", "--tier", "embeded"], "did you mean 'embedded'"),
        (["data", "verify", "--tier", "opne"], "did you mean 'open'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_usage_names_the_nearest(arguments, remedy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(TASKS, "elevation", lambda points: pytest.fail("it came to work"))
    result = run(*arguments)
    assert result.exit_code == 2, result.stderr
    assert remedy in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir()), "it has begun to write"


def test_a_light_install_is_told_what_the_command_needs():
    code = "import sys; sys.modules['typer'] = None; import locties.cli"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    said = 'locties: the command line needs typer: pip install "locties[cli]"\n'
    assert (done.stdout, done.stderr) == ("", said)


def test_help_loads_neither_torch_nor_pandas():
    code = (
        "import sys\nfrom locties.cli import app\n"
        "sys.argv = ['locties', 'pretrain', '--help']\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        "print({'torch', 'numpy', 'pandas', 'yaml'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("a\nb"), 2, "a b"),
        (DataError("rain is missing; run: x"), 1, "rain is missing; run: x"),
        (FileNotFoundError(2, "No such file", "a.csv"), 1, "a.csv: No such file"),
        (RuntimeError("in use by process 3"), 1, "in use by process 3"),
        (FloatingPointError("the loss is nan"), 1, "the loss is nan"),
        (
            ModuleNotFoundError("No module named 'timm'", name="timm"),
            1,
            "No module named 'timm'",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ValueError("force=True and lon=1"), 2, "--force and lon=1"),
        (ValueError("pass force= and no more"), 2, "pass --force and no more"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_fault_is_one_line_and_an_exit_code(error, code, said, monkeypatch):
    def fail(force: bool) -> None:
        raise error

    monkeypatch.setattr(embedded, "build", fail)
    result = run("data", "build")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == f"locties: {said}\n"


def test_an_argument_with_a_value_is_named_as_an_option_with_it(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ValueError("lon='a b' is unknown: pass lat=y, or kind= alone; sea=True stays")

    monkeypatch.setattr("locties.doctor.examine", fail)
    result = run("doctor", "points.csv")
    said = "--lon 'a b' is unknown: pass --lat y, or --kind alone; sea=True stays"
    assert result.stderr == f"locties: {said}\n"


@pytest.mark.parametrize(
    ("stream", "said"),
    [("stdin", "stdin is closed: name a file"), ("stdout", "stdout is closed: send it to a file")],
)
def test_a_closed_stream_is_one_line(
    stream: str, said: str, encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(sys, stream, None)
    with pytest.raises(SystemExit) as end:
        app(["embed", str(encoder)])
    assert end.value.code == 1
    assert re.fullmatch(rf"locties: {said}.*\n", capsys.readouterr().err)


STEERING = {
    "colour": "\x1b[31m",
    "title": "\x1b]0;mine\x07",
    "one-byte CSI": "\x9b2J",
    "DEL and NUL": "\x7f\x00",
    "carriage return": "fine\rbad",
    "lines": "one\ntwo\u2028three",
    "backwards": "\u202edaol",
    "zero width": "me\u200blt",
    "lone surrogate": "\udcc3",
}


@pytest.mark.parametrize("where", ["error", "OSError", "warning", "info", "JSON"])
@pytest.mark.parametrize("what", STEERING)
def test_text_of_others_does_not_steer_the_terminal(what, where, tmp_path, monkeypatch):
    text = STEERING[what] + " Zoë"

    def fail(force: bool) -> None:
        if where == "warning":
            warnings.warn(text, stacklevel=2)
        raise OSError(28, "full", text) if where == "OSError" else ValueError(text)

    monkeypatch.setattr(embedded, "build", fail)
    if where in ("info", "JSON"):
        made = locties.LocationEncoder("xyz", "linear", dim=3)
        made.origin = {"name": text, text: 1}
        made.save(tmp_path / "e")
        result = run("info", tmp_path / "e", *(["--json"] if where == "JSON" else []))
        assert result.exit_code == 0, result.stderr
    else:
        result = run("data", "build")
    for line in (result.stdout + result.stderr).split("\n"):
        assert line.isprintable(), ascii(line)
    if where == "JSON":
        assert json.loads(result.stdout)["origin"]["name"] == text


@pytest.mark.slow
def test_a_c_locale_shows_everything(tmp_path):
    made = locties.LocationEncoder("xyz", "linear", dim=3)
    made.origin = {"name": "Zoë 東京"}
    made.save(tmp_path / "E")
    c_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    commands = ["--help", "evaluate --help", "info", "info --json", "info E", "data list"]
    code = (
        "import sys\n"
        "from locties.cli import app\n"
        "for command in sys.argv[1:]:\n"
        "    sys.argv = ['locties', *command.split()]\n"
        "    try: app()\n"
        "    except SystemExit as end: print('ended with', end.code, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *commands],
        env=os.environ | c_locale,
        cwd=tmp_path,
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()
    assert done.stdout.count(b"ended with 0\n") == len(commands)
    assert rb"Zo\xeb \u6771\u4eac" in done.stdout


# 2: the command is wrong, and no file need be read to know it. 1: a file cannot be used as asked.
FAULTS = {
    "embed metl sites.csv": 2,
    "embed melt sites.csv -o out.docx": 2,
    "embed melt none.csv": 1,
    "embed altered sites.csv": 1,
    "embed broken sites.csv": 1,
    "evaluate metl": 2,
    "evaluate xyz --tasks none": 2,
    "evaluate xyz --target ph": 2,
    "evaluate xyz --labels few --tasks elevation": 2,
    "evaluate xyz --points-file none.csv --target ph": 1,
    "evaluate altered --tasks elevation": 1,
    "evaluate xyz --points-file sites.csv --target ph": 1,
    "evaluate xyz --points-file few.csv --target ph": 1,
    "evaluate xyz --points-file few.csv --target ph --kind none": 2,
    "evaluate xyz --points-file few.csv --target ph --invalid none": 2,
    "map none.csv --target ph": 1,
    "map sites.csv --target ph": 1,
    "map few.csv --target ph": 1,
    "map few.csv --target ph --kind none": 2,
    "map few.csv --target ph --invalid none": 2,
    "map few.csv --target ph --coverage 90": 2,
    "map few.csv --target ph --encoder metl": 2,
    "map few.csv --target ph -o out.docx": 2,
    "doctor none.csv": 1,
    "doctor sites.csv --target ph": 1,
    "doctor sites.csv --kind none": 2,
    "doctor sites.csv --invalid none": 2,
    "embed melt few.csv --lon east": 1,
    "embed melt few.csv --invalid none": 2,
    "info metl": 2,
    "info altered": 1,
    "info broken": 1,
    "info empty": 1,
    "pretrain mlet -m haze -o run": 2,
    "pretrain melt -m haze -o full": 2,
    "pretrain melt -m haze -o sites.csv": 2,
    "pretrain melt -m soil=none.tif -o run": 1,
    "convert satclip none.ckpt out": 1,
    "convert satclip sites.csv out": 1,
    "data fetch nothing": 2,
    "data list --tier none": 2,
    "s2 index": 2,
}


@pytest.mark.parametrize("command", FAULTS)
def test_exit_codes_tell_a_wrong_command_from_a_wrong_file(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sites.csv").write_text("lon,lat\n1,2\n")
    Path("few.csv").write_text("lon,lat,ph\n13,52,6.5\n14,53,7.1\n")
    for name in ("altered", "broken"):
        locties.LocationEncoder("xyz", "linear", dim=3).save(name)
    config = Path("altered/config.json")
    config.write_text(config.read_text().replace('"seed": 0', '"seed": 1'))
    Path("broken/model.safetensors").write_bytes(b"half")
    Path("empty").mkdir()
    Path("full").mkdir()
    Path("full/thesis.tex").touch()
    result = run(*command.split())
    assert result.exit_code == FAULTS[command], result.output
    assert result.stdout == "" or command.startswith("doctor")
    assert result.stderr


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_an_unknown_option_is_wrong_usage_everywhere(path):
    assert run(*path, "--no-such-option").exit_code == 2


def test_a_bug_keeps_its_traceback(monkeypatch):
    def fail(force: bool) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr(embedded, "build", fail)
    result = run("data", "build")
    assert isinstance(result.exception, AssertionError)


# ------------------------------------------------------------------------------- what is installed

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def libraries(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements}


EXTRAS = {name: libraries(needs) for name, needs in PROJECT["optional-dependencies"].items()}
MODULES = {"basemap-data": "mpl_toolkits", "pillow": "PIL", "pyyaml": "yaml"}
MODULES["scikit-learn"] = "sklearn"


def module_of(library: str) -> str:
    return MODULES.get(library, library.replace("-", "_"))


@pytest.mark.slow
def test_the_extra_of_the_command_line_is_what_its_own_commands_need(encoder, tmp_path):
    """`embed` of a CSV, `info` and `convert`, where no library of another extra is installed."""
    there = {*EXTRAS["cli"], *libraries(PROJECT["dependencies"]), "filelock"}  # torch brings it
    missing = sorted(map(module_of, set().union(*EXTRAS.values()) - there))
    assert "geopandas" in missing
    (tmp_path / "places.csv").write_text("lon,lat\n13.4,52.5\n")
    torch.save({"state_dict": {"model.location.nnet.x": torch.zeros(1)}}, tmp_path / "s.ckpt")
    commands = [
        ["embed", encoder, tmp_path / "places.csv", "-o", tmp_path / "out.csv"],
        ["embed", encoder, tmp_path / "places.csv", "-o", tmp_path / "out.parquet"],
        ["info"],
        ["info", encoder],
        ["convert", "satclip", tmp_path / "s.ckpt", tmp_path / "satclip"],
    ]
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({missing}))\n"
        "from locties.cli import app\n"
        f"for command in {[list(map(str, command)) for command in commands]}:\n"
        "    print('$', *command[:1], file=sys.stderr)\n"
        "    try:\n        app(command)\n"
        "    except SystemExit as end:\n        print(end.code, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    *worked, convert = done.stderr.split("$ ")[1:]
    assert worked == ["embed\n0\n", "embed\n0\n", "info\n0\n", "info\n0\n"]
    assert "needs" not in convert
    assert "s.ckpt" in convert, "it has read the checkpoint, and said what is wrong with it"
    assert len(pd.read_csv(tmp_path / "out.csv")) == len(pd.read_parquet(tmp_path / "out.parquet"))


@pytest.mark.parametrize("module", ["pandas", "tqdm"])
def test_embed_without_its_packages_names_the_extra_of_the_command_line(
    module, encoder, monkeypatch
):
    for loaded in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.setitem(sys.modules, loaded, None)
    result = run("embed", encoder, input="lon,lat\n1,2\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.search(rf'needs {module}\S*: pip install "locties\[cli\]"\n$', result.stderr)


def test_an_interrupt_while_the_commands_are_imported_is_one_line() -> None:
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "import locties.cli"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, b"locties: interrupted\n")
