"""The command line: what is printed where, and the exit code."""

import hashlib
import io
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command import run, start
from typer.main import get_command

import locties
from locties import __version__
from locties.cli import app, base, embed
from locties.cli.base import Command
from locties.cli.info import REGISTRIES
from locties.data import embedded, manifest
from locties.data.manifest import DataError
from locties.evaluation import BASELINES, OPEN_TASKS, PROBES, TASKS
from locties.features import FEATURES
from locties.modalities import MODALITIES
from locties.networks import NETWORKS
from locties.objectives import OBJECTIVES
from locties.training import SCHEDULES
from locties_paper.site.notebook import REPOSITORY

# ----------------------------------------------------------------------------------- every command


def commands() -> Iterator[tuple[str, ...]]:
    """Every command and group, as the words after `locties`."""

    def below(group: object, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        for name, command in getattr(group, "commands", {}).items():
            yield from below(command, (*path, name))

    return below(get_command(app), ())


def test_the_commands_are_those_of_the_book() -> None:
    top = {path[0] for path in commands() if path}
    assert top == {"data", "pretrain", "evaluate", "embed", "convert", "s2", "info"}


def test_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"locties {__version__}\n")


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_help_gives_an_example_that_is_understood(path: tuple[str, ...]) -> None:
    shown = " ".join(run(*path, "--help", env={"COLUMNS": "200"}).stdout.split())
    assert "Example: locties" in shown
    command = get_command(app)
    for name in path:
        command = command.commands[name]
    examples = re.findall(r"Example: `locties (.*?)`", " ".join(command.help.split()))
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
        (["embed", "melt", "--output", "x.csb"], "x.csb is no table known by its ending"),
        (["embed", "melt", "--grid", "1"], "--output FILE.zarr or FILE.tif"),
        (["embed", "melt", "--invalid", "dorp"], "did you mean 'drop'"),
        (["info", "metl"], "did you mean 'melt'"),
        (["data", "list", "--tier", "embeded"], "did you mean 'embedded'"),
        (["data", "verify", "--tier", "opne"], "did you mean 'open'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_usage_names_the_nearest(
    arguments: list[str], remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(TASKS, "elevation", lambda points: pytest.fail("it came to work"))
    result = run(*arguments)
    assert result.exit_code == 2, result.stderr
    assert remedy in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir()), "it has begun to write"


def test_a_light_install_is_told_what_the_command_needs() -> None:
    code = "import sys; sys.modules['typer'] = None; import locties.cli"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    said = 'locties: the command line needs typer: pip install "locties[cli]"\n'
    assert (done.stdout, done.stderr) == ("", said)


def test_help_loads_neither_torch_nor_pandas() -> None:
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
            "No module named 'timm': this command needs it",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ValueError("force='yes it is' and lon=1"), 2, "--force 'yes it is' and lon=1"),
        (ValueError("pass force= and no more"), 2, "pass --force and no more"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_fault_is_one_line_and_an_exit_code(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(force: bool) -> None:
        raise error

    monkeypatch.setattr(embedded, "build", fail)
    result = run("data", "build")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == f"locties: {said}\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """locties as this pyproject.toml describes it, whatever was installed of it and when."""
    requires = [
        f"{requirement}; extra == '{name}'"
        for name, needs in PROJECT["optional-dependencies"].items()
        for requirement in needs
    ]
    monkeypatch.setattr(base.metadata, "requires", lambda _: [*PROJECT["dependencies"], *requires])


def test_the_extra_of_the_command_line_is_what_its_own_commands_need(
    encoder: Path, tmp_path: Path
) -> None:
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


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("library", sorted(set().union(*EXTRAS.values())))
def test_a_missing_library_is_answered_with_the_smallest_extra_that_has_it(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(force: bool) -> None:
        module = f"{module_of(library)}.part"
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(embedded, "build", fail)
    result = run("data", "build")
    assert (result.exit_code, result.stdout) == (1, "")
    said = f"locties: No module named '{module_of(library)}.part': this command needs it; run: "
    assert result.stderr.startswith(said)
    extra = re.fullmatch(r'pip install "locties\[(\w+)\]"\n', result.stderr.removeprefix(said))[1]
    assert library in EXTRAS[extra]
    if library in EXTRAS["cli"]:
        assert extra == "cli"
    else:
        others = [len(needs) for needs in EXTRAS.values() if library in needs]
        assert len(EXTRAS[extra]) == min(others)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("module", ["pandas", "pyarrow", "tqdm"])
def test_embed_without_its_libraries_names_the_extra_of_the_command_line(
    module: str, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loaded in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.setitem(sys.modules, loaded, None)
    for loaded in ("frames", "tables"):
        monkeypatch.delitem(sys.modules, f"locties.{loaded}", raising=False)
    result = run("embed", encoder, input="lon,lat\n1,2\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert module in result.stderr
    assert result.stderr.endswith('this command needs it; run: pip install "locties[cli]"\n')


def test_where_locties_is_not_installed_no_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise base.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(base.metadata, "requires", fail)
    monkeypatch.setitem(sys.modules, "locties.data.embedded", None)
    assert "run:" not in run("data", "build").stderr


# ------------------------------------------------------------------------------------ locties data


def test_list_shows_every_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    result = run("data", "list")
    assert result.exit_code == 0
    for source in manifest.sources():
        (line,) = (line for line in result.stdout.splitlines() if f" {source.name} " in line)
        assert source.where in line
        assert source.licence in line


def test_list_as_json_has_every_file_and_its_hash() -> None:
    listed = json.loads(run("data", "list", "--tier", "embedded", "--json").stdout)
    sources = manifest.sources("embedded")
    assert [entry["name"] for entry in listed] == [source.name for source in sources]
    assert listed[0]["files"][0]["sha256"] == sources[0].files[0].sha256
    assert listed[0]["where"] == sources[0].where


def test_verify_says_ok_for_each_source() -> None:
    result = run("data", "verify")
    assert result.exit_code == 0, result.stdout
    assert len(re.findall(r"^\w+ +ok$", result.stdout, re.MULTILINE)) == len(
        manifest.sources("embedded")
    )


def test_verify_takes_a_tier(open_tier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("data", "verify", "--tier", "open")
    assert result.exit_code == 0, result.stdout
    assert len(re.findall(r"^\w+ +ok$", result.stdout, re.MULTILINE)) == 6
    monkeypatch.delenv("LOCTIES_MIRROR")
    result = run("data", "verify", "--tier", "open")
    assert result.exit_code == 1
    assert "FAULT: " in result.stdout
    assert "run: locties data fetch night_lights" in result.stdout


def test_verify_names_a_fault_and_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = manifest.sources("embedded")[:2]
    faults = iter([(first, None), (second, "x.h5 has 3 bytes, expected 7; run: pip install y")])
    monkeypatch.setattr(manifest, "verify", lambda tier: faults)
    result = run("data", "verify")
    assert result.exit_code == 1
    assert f"{first.name:18} ok" in result.stdout
    assert "FAULT: x.h5 has 3 bytes, expected 7; run: pip install y" in result.stdout


def test_verify_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = manifest.sources("embedded")[:2]
    for fault, code in ((None, 0), ("x.h5 has 3 bytes, expected 7", 1)):
        faults = [(first, None), (second, fault)]
        monkeypatch.setattr(manifest, "verify", lambda tier, faults=faults: faults)
        result = run("data", "verify", "--json")
        assert result.exit_code == code
        assert json.loads(result.stdout) == [
            {"name": first.name, "fault": None},
            {"name": second.name, "fault": fault},
        ]


def test_fetch_as_json_names_every_file(
    open_tier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCTIES_CACHE", str(tmp_path))
    result = run("data", "fetch", "stations", "biomes", "--json")
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert {entry["name"] for entry in printed} == {"stations", "biomes"}
    for entry in printed:
        content = Path(entry["path"]).read_bytes()
        assert len(content) == entry["bytes"]
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]


def test_build_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "earth of mine.npz").write_bytes(b"1234567")
    monkeypatch.setattr(embedded, "build", lambda force: tmp_path / "earth of mine.npz")
    printed = json.loads(run("data", "build", "--json").stdout)
    assert printed == {"path": str(tmp_path / "earth of mine.npz"), "bytes": 7}


@pytest.mark.data
def test_build_prints_path_and_size_alone_on_stdout(earth: embedded.Earth) -> None:
    result = run("data", "build")
    path, size, unit = result.stdout.rsplit(maxsplit=2)
    assert result.exit_code == 0
    assert Path(path) == embedded.cache_path()
    assert float(size) == pytest.approx(Path(path).stat().st_size / 1e6, abs=0.05)
    assert unit == "MB"


# ----------------------------------------------------------------------------------- locties info


def test_info_lists_every_registry() -> None:
    result = run("info", "--json")
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    registries = [FEATURES, NETWORKS, OBJECTIVES, SCHEDULES, MODALITIES, TASKS, OPEN_TASKS]
    registries += [PROBES, BASELINES]
    for name, registry in zip(REGISTRIES, registries, strict=True):
        assert printed[name] == list(registry), name
    assert printed["version"] == __version__
    assert "melt" in printed["encoders"]
    assert printed["cache"] == str(manifest.cache_folder())


def test_info_says_whether_the_data_are_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCTIES_CACHE", str(tmp_path))
    assert json.loads(run("info", "--json").stdout)["data"] == "not built; run: locties data build"
    embedded.cache_path().touch()
    assert json.loads(run("info", "--json").stdout)["data"] == "built"


def test_info_is_there_in_a_light_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "locties.data.manifest", None)
    printed = json.loads(run("info", "--json").stdout)
    assert printed["cache"] is None
    assert printed["data"] == 'not there; run: pip install "locties[data]"'
    assert printed["tasks"] == list(TASKS)


def test_info_on_an_encoder(encoder: Path) -> None:
    printed = json.loads(run("info", encoder, "--json").stdout)
    config = json.loads((encoder / "config.json").read_text())
    assert printed["features"] == "xyz"
    assert printed["dim"] == 3
    assert printed["parameters"] == 3 * 3 + 3
    assert printed["sha256"] == config["sha256"]
    assert printed["readout"] == "output"
    shown = run("info", "melt").stdout
    assert re.search(r"^feature options +degree=10$", shown, re.MULTILINE)


def test_info_says_how_long_an_embedding_is(tmp_path: Path) -> None:
    read = {"network_options": {"hidden": 8}, "readout": "layers"}
    locties.LocationEncoder("xyz", "mlp", dim=3, **read).save(tmp_path / "wide")
    printed = json.loads(run("info", tmp_path / "wide", "--json").stdout)
    assert (printed["dim"], printed["readout"]) == (8 + 8 + 3, "layers")


def test_info_loads_no_torch_to_list_names() -> None:
    code = (
        "import sys\nfrom locties.cli import app\nsys.argv = ['locties', 'info']\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        "print({'torch', 'pandas', 'sklearn'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"


# ---------------------------------------------------------------------------------- locties embed

PLACES = 'id,lon,lat,"no, te"\n007,13.40,52.5,"a, ""b"""\n008,-200,-10,\n'


@pytest.fixture
def embedding(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the tables that `locties.embed` is given."""
    lengths, whole = [], locties.embed

    def spy(encoder: str, data: pd.DataFrame, **options: object) -> pd.DataFrame:
        lengths.append(len(data))
        return whole(encoder, data, **options)

    monkeypatch.setattr(locties, "embed", spy)
    return lengths


def embedded_at(encoder: Path, lonlat: object) -> np.ndarray:
    with torch.no_grad():
        return locties.load(encoder)(np.asarray(lonlat, dtype=np.float32)).numpy()


def test_embed_leaves_the_columns_as_they_are(encoder: Path) -> None:
    result = run("embed", encoder, input=PLACES)
    assert result.exit_code == 0, result.stderr
    head, *rows = result.stdout.splitlines()
    assert head == 'id,lon,lat,"no, te",small_000,small_001,small_002'
    assert rows[0].startswith('007,13.40,52.5,"a, ""b""",')
    assert rows[1].startswith("008,-200,-10,,")
    printed = pd.read_csv(io.StringIO(result.stdout), dtype={"id": str})
    values = printed.iloc[:, 4:].to_numpy(dtype=np.float32)
    assert (values == embedded_at(encoder, [[13.4, 52.5], [-200, -10]])).all()
    assert result.stderr == ""


def test_embed_reads_and_writes_by_suffix(encoder: Path, tmp_path: Path) -> None:
    places = tmp_path / "places.csv"
    places.write_text(PLACES)
    parquet, back = tmp_path / "places.parquet", tmp_path / "back.tsv"
    assert run("embed", encoder, places, "-o", parquet).exit_code == 0
    table = pd.read_parquet(parquet)
    assert table["lon"].tolist() == [13.4, -200.0]
    assert table.attrs["encoder"] == "small"
    assert (table.iloc[:, 4:].to_numpy() == embedded_at(encoder, table[["lon", "lat"]])).all()
    table.iloc[:, :4].to_parquet(parquet)
    assert run("embed", encoder, parquet, "-o", back).exit_code == 0
    assert pd.read_csv(back, sep="\t")["small_002"].tolist() == pytest.approx(
        table["small_002"].tolist()
    )
    assert sorted(tmp_path.iterdir()) == sorted([places, parquet, back, encoder])


def test_embed_leaves_text_of_a_parquet_text(encoder: Path, tmp_path: Path) -> None:
    places = pd.DataFrame({"lon": [13.4, 2.3], "lat": [52.5, 48.9], "id": ["007", "008"]})
    places.to_parquet(tmp_path / "places.parquet")
    assert (
        run("embed", encoder, tmp_path / "places.parquet", "-o", tmp_path / "o.pq").exit_code == 0
    )
    assert pd.read_parquet(tmp_path / "o.pq")["id"].tolist() == ["007", "008"]


@pytest.fixture
def points(tmp_path: Path) -> Path:
    """Five places as GeoParquet, in Web Mercator, with longitudes that are not theirs beside."""
    geopandas = pytest.importorskip("geopandas")
    lonlat = np.array([[13.4, 52.5], [-60.0, -3.1], [91.1, 29.7], [15.3, -4.3], [2.35, 48.9]])
    columns = {"id": list("abcde"), "lon": 0.0, "lat": range(5)}
    where = geopandas.points_from_xy(*lonlat.T, crs=4326)
    frame = geopandas.GeoDataFrame(columns, geometry=where).to_crs(3857)
    frame.rename_geometry("at").to_parquet(tmp_path / "points.geoparquet")
    return tmp_path / "points.geoparquet"


def test_embed_takes_the_points_of_a_geoparquet(
    encoder: Path, points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import geopandas

    monkeypatch.setattr(embed, "ROWS", 2)
    result = run("embed", encoder, points, "-o", tmp_path / "out.parquet")
    assert result.exit_code == 0, result.stderr
    before, after = (geopandas.read_parquet(p) for p in (points, tmp_path / "out.parquet"))
    assert list(after.columns) == [*before.columns, "small_000", "small_001", "small_002"]
    assert after.crs == before.crs == "EPSG:3857"
    assert after.geometry.name == "at"
    assert after.geometry.geom_equals_exact(before.geometry, 0).all()
    where = before.geometry.to_crs(4326)
    expected = embedded_at(encoder, np.stack([where.x, where.y], axis=1))
    assert np.allclose(after.iloc[:, 4:].to_numpy(), expected, rtol=1e-5, atol=1e-6)
    named = run("embed", encoder, points, "--lon", "lon", "--lat", "lat", "-o", tmp_path / "o.pq")
    assert named.exit_code == 0, named.stderr
    read = pd.read_parquet(tmp_path / "o.pq").iloc[:, 4:].to_numpy()
    assert np.allclose(read, embedded_at(encoder, before[["lon", "lat"]]), rtol=1e-6)


def test_embed_writes_points_to_csv_as_text(encoder: Path, points: Path) -> None:
    result = run("embed", encoder, points)
    assert result.exit_code == 0, result.stderr
    printed = pd.read_csv(io.StringIO(result.stdout))
    assert printed["at"].str.fullmatch(r"POINT \(-?\d+\.\d+ -?\d+\.\d+\)").all()
    assert printed["id"].tolist() == list("abcde")


def test_embed_names_what_the_metadata_of_a_geoparquet_lack(encoder: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"at": [b""]})
    for said, lacks in (
        ({"columns": {"at": {"encoding": "WKB"}}}, "primary_column"),
        ({"primary_column": "at", "columns": {"at": {}}}, "encoding of 'at'"),
        ({"primary_column": "at", "columns": {}}, "its primary column"),
    ):
        pq.write_table(table.replace_schema_metadata({"geo": json.dumps(said)}), tmp_path / "p.pq")
        result = run("embed", encoder, tmp_path / "p.pq")
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"p.pq is no whole GeoParquet: its metadata lacks {lacks}." in result.stderr


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_embed_of_no_rows_is_a_header(encoder: Path, tmp_path: Path, suffix: str) -> None:
    pd.DataFrame({"lon": [1.0], "lat": [2.0]}).iloc[:0].to_parquet(tmp_path / "none.parquet")
    result = run("embed", encoder, tmp_path / "none.parquet", "-o", tmp_path / f"out.{suffix}")
    assert result.exit_code == 0, result.stderr
    read = pd.read_csv if suffix == "csv" else pd.read_parquet
    columns = list(read(tmp_path / f"out.{suffix}"))
    assert columns[:2] == ["lon", "lat"]
    assert len(columns) == 2 + locties.load(encoder).dim


def test_embed_says_what_a_geoparquet_needs(
    encoder: Path, points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import geopandas

    frame = geopandas.read_parquet(points)
    frame.set_crs(None, allow_override=True).to_parquet(tmp_path / "nowhere.parquet")
    nowhere = run("embed", encoder, tmp_path / "nowhere.parquet")
    assert (nowhere.exit_code, nowhere.stdout) == (1, "")
    assert "the geometry has no CRS" in nowhere.stderr
    frame.to_parquet(tmp_path / "arrow.parquet", geometry_encoding="geoarrow")
    arrow = run("embed", encoder, tmp_path / "arrow.parquet")
    assert (arrow.exit_code, arrow.stdout) == (1, "")
    assert "column 'at' has its geometry as 'point': write it as WKB" in arrow.stderr
    monkeypatch.setitem(sys.modules, "geopandas", None)
    missing = run("embed", encoder, points, "-o", tmp_path / "out.parquet")
    assert missing.exit_code == 1
    said = 'locties: a GeoParquet file needs geopandas: pip install "locties[own]"\n'
    assert missing.stderr == said
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_embed_takes_a_table_in_parts(
    encoder: Path,
    embedding: list[int],
    tmp_path: Path,
    suffix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embed, "ROWS", 40)
    rng = np.random.default_rng(0)
    places = pd.DataFrame(rng.uniform([-180, -90], [180, 90], (100, 2)), columns=["E", "N"])
    places.to_csv(tmp_path / "places.csv", index=False)
    out = tmp_path / f"out.{suffix}"
    result = run("embed", encoder, tmp_path / "places.csv", "--lon", "E", "--lat", "N", "-o", out)
    assert result.exit_code == 0, result.stderr
    assert embedding == [40, 40, 20]
    table = pd.read_csv(out) if suffix == "csv" else pd.read_parquet(out)
    expected = embedded_at(encoder, places.to_numpy())
    assert np.allclose(table.iloc[:, 2:], expected, rtol=1e-6, atol=0)


def test_embed_says_what_is_wrong_and_leaves_no_file(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "ROWS", 2)
    out = tmp_path / "out.csv"
    bad = "lon,lat\n1,2\n3,4\n5,6\n100,-95\n"
    result = run("embed", encoder, "-o", out, input=bad)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Latitude is outside [-90, 90]: row 1" in result.stderr
    assert "(rows counted from row 2)" in result.stderr
    assert sorted(tmp_path.iterdir()) == [encoder]
    twice = run("embed", encoder, input=run("embed", encoder, input=PLACES).stdout)
    assert twice.exit_code == 1
    assert "there is a column 'small_000' already" in twice.stderr
    long = run("embed", encoder, input="lon,lat\n1,2,3\n")
    assert long.exit_code == 1
    assert "stdin has more fields in its rows than in its header" in long.stderr


GAPS = "id,lon,lat\n0,1,2\n1,,4\n2,5,6\n3,7,\n4,,\n5,100,95\n6,11,12\n"  # parts of two rows


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_embed_leaves_rows_out_when_asked_and_says_which(
    encoder: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "ROWS", 2)
    places, out = tmp_path / f"places.{suffix}", tmp_path / f"out.{suffix}"
    if suffix == "csv":
        places.write_text(GAPS)
    else:  # with an index, of which two rows have the same
        frame = pd.read_csv(io.StringIO(GAPS)).set_index(pd.Index([0] * 7, name="same"))
        frame.to_parquet(places)
    refused = run("embed", encoder, places, "-o", out)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "1 of 2 rows cannot be used. Longitude or latitude is missing: row 1" in refused.stderr
    assert "mend them, or pass --invalid drop to leave them out" in refused.stderr
    assert "frame" not in refused.stderr
    assert not out.exists()
    result = run("embed", encoder, places, "--invalid", "drop", "-o", out)
    assert result.exit_code == 0, result.stderr
    table = pd.read_csv(out) if suffix == "csv" else pd.read_parquet(out)
    assert table["id"].tolist() == [0, 2, 6]
    expected = embedded_at(encoder, [[1, 2], [5, 6], [11, 12]])
    assert np.allclose(table.iloc[:, 3:].to_numpy(), expected, rtol=1e-6)
    first, second, third, total = result.stderr.splitlines()
    missing = "locties: warning: {} of 2 rows cannot be used. Longitude or latitude is missing: "
    assert first == f"{missing.format(1)}row 1. They are left out"
    assert second == f"{missing.format(1)}row 1. They are left out (rows counted from row 2)"
    assert third.startswith(f"{missing.format(2)}row 0; latitude is outside [-90, 90]")
    assert third.endswith(": row 1. They are left out (rows counted from row 4)")
    assert total == "locties: 4 of 7 rows are left out"


def test_embed_of_no_usable_row_is_a_fault(encoder: Path, tmp_path: Path) -> None:
    none = "lon,lat\n,2\n3,\n"
    result = run("embed", encoder, "--invalid", "drop", "-o", tmp_path / "out.csv", input=none)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "2 of 2 rows cannot be used" in result.stderr
    assert result.stderr.endswith("locties: no row is left\n")
    assert sorted(tmp_path.iterdir()) == [encoder]


@pytest.mark.parametrize(
    ("name", "text", "separator", "remedy"),
    [
        ("a.csv", "lon;lat\n13.4;52.5\n", "';'", "convert it to commas and decimal points"),
        ("a.csv", "lon;lat\n13,4;52,5\n", "';'", "convert it to commas and decimal points"),
        ("-", "lon;lat\n13,4;52,5\n", "';'", "convert it to commas and decimal points"),
        ("-", "lon\tlat\n13.4\t52.5\n", r"'\t'", "a file whose name ends in .tsv"),
        ("a.tsv", "lon,lat\n13.4,52.5\n", "','", "a file whose name ends in .csv"),
    ],
)
def test_embed_says_which_separator_a_table_seems_to_have(
    encoder: Path,
    tmp_path: Path,
    name: str,
    text: str,
    separator: str,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if name != "-":
        Path(name).write_text(text)
    result = run("embed", encoder, name, input=text)
    assert (result.exit_code, result.stdout) == (1, "")
    header = text.splitlines()[0]
    called = "stdin" if name == "-" else name
    said = f"locties: {called} has one column, {header!r}: its separator seems to be {separator}; "
    assert result.stderr.startswith(said)
    assert remedy in result.stderr


def test_embed_of_a_csv_that_is_a_header_alone_is_a_header(encoder: Path) -> None:
    result = run("embed", encoder, input="lon,lat\n")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "lon,lat,small_000,small_001,small_002\n"


def test_embed_goes_by_the_name_of_a_run(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "my-run").mkdir()
    encoder.rename(tmp_path / "my-run" / "encoder")
    result = run("embed", tmp_path / "my-run", input=PLACES)
    assert result.stdout.splitlines()[0].endswith('"no, te",my-run_000,my-run_001,my-run_002')


@pytest.mark.slow
def test_embed_in_a_pipe(encoder: Path) -> None:
    process = start("embed", encoder)
    out, said = process.communicate(PLACES.encode(), timeout=120)
    assert (process.returncode, said) == (0, b"")
    assert out.decode() == run("embed", encoder, input=PLACES).stdout


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_fault(encoder: Path, tmp_path: Path) -> None:
    rows = "".join(f"{i / 200},{i / 1000}\n" for i in range(40_000))
    (tmp_path / "long.csv").write_text(f"lon,lat\n{rows}")
    process = start("embed", encoder, tmp_path / "long.csv")
    assert process.stdout.readline() == b"lon,lat,small_000,small_001,small_002\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=120) != 0


def test_embed_writes_the_globe(encoder: Path, tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    result = run("embed", encoder, "--grid", "30", "-o", tmp_path / "globe.zarr")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'globe.zarr'}\n")
    globe = xarray.open_zarr(tmp_path / "globe.zarr")
    here = globe["embedding"].sel(lon=15, lat=45).to_numpy()
    assert here == pytest.approx(embedded_at(encoder, [[15, 45]])[0], rel=1e-5)


def test_embed_exports_the_globe(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def export_grid(*arguments: object, **options: object) -> None:
        calls.append((arguments, options))

    monkeypatch.setattr(locties, "export_grid", export_grid)
    result = run("embed", encoder, "--grid", "0.5", "-o", "globe.zarr")
    assert (result.exit_code, result.stdout) == (0, "globe.zarr\n")
    assert calls == [((str(encoder), "globe.zarr", 0.5), {"progress": True})]

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(locties, "export_grid", interrupt)
    result = run("embed", encoder, "--grid", "0.5", "-o", "globe.zarr")
    assert result.exit_code == 130
    assert result.stderr == "locties: interrupted; the same command goes on from there\n"
