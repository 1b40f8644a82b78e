"""Every public docstring says what goes in, what comes out and what can go wrong, by example.

Public is what the API reference in the book lists; it lists every name that `locties` exports and
every entry of a registry. The examples themselves run as tests: pytest collects them from `src`.
"""

import ast
import dataclasses
import doctest
import functools
import inspect
import re
import textwrap
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import locties
from locties.registry import Registry

BOOK = Path(__file__).parents[1] / "book"
DIRECTIVE = re.compile(r"^\.\. auto(?:function|class|exception):: (\S+)\n((?:   .*\n)*)", re.M)
REGISTRIES = [
    "locties.features.FEATURES",
    "locties.networks.NETWORKS",
    "locties.objectives.OBJECTIVES",
    "locties.modalities.MODALITIES",
    "locties.peers.PEERS",
    "locties.training.SCHEDULES",
    "locties.evaluation.TASKS",
    "locties.evaluation.OPEN_TASKS",
    "locties.evaluation.BASELINES",
    "locties.evaluation.PROBES",
    "locties.evaluation.GROUPINGS",
]
SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|References|Example|Source):", re.M)


def resolve(name: str) -> Any:
    """The object of a dotted name, of which modules are a prefix."""
    module, rest = name, []
    while True:
        try:
            found: Any = import_module(module)
            break
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            rest.insert(0, last)
    for attribute in rest:
        found = getattr(found, attribute)
    return found


def listed() -> dict[str, list[str]]:
    """What the API pages list: dotted name to the members that are shown with it."""
    names = {}
    for page in sorted(BOOK.glob("api*.md")):
        for name, options in DIRECTIVE.findall(page.read_text()):
            members = re.search(r":members: (.+)", options)
            names[name] = members[1].split(", ") if members else []
    return names


LISTED = listed()
METHODS = [f"{name}.{member}" for name, members in LISTED.items() for member in members]
IMPLEMENTED = {
    f"{registry.rpartition('.')[2]}[{name!r}]": getattr(entry, "func", entry)
    for registry in REGISTRIES
    for name, entry in resolve(registry).items()
}


def sections(documented: Any) -> dict[str, str]:
    """The docstring by section; the text above them all is at ''."""
    parts = SECTION.split(inspect.getdoc(documented) or "")
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def arguments(text: str) -> list[str]:
    """The names that an Args or Attributes section explains."""
    named = re.findall(r"^    (\*{0,2}\w+(?:, \w+)*):", text, re.M)
    return [name for names in named for name in names.split(", ")]


def parameters(documented: Any) -> list[str]:
    return [name for name in inspect.signature(documented).parameters if name != "self"]


@functools.cache
def raised(function: Any) -> set[str]:
    """The exceptions that a function's own lines raise by name; `unknown` makes a ValueError."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = ast.unparse(node.exc.func)
            if name == "unknown":
                names.add("ValueError")
            elif name.endswith(("Error", "Exists", "Interrupt")):
                names.add(name)
    return names


def missing(documented: Any) -> list[str]:
    """What the docstring of a function, a class or a method lacks."""
    found, lacks = sections(documented), []
    summary = found[""].partition("\n")[0]
    if not re.search(r"[.:!?]$", summary) or not 10 <= len(summary) <= 100:
        lacks.append(f"a summary in one line, not {summary!r}")
    if isinstance(documented, property):
        return lacks
    if inspect.isclass(documented):
        raises = set().union(*map(raised, constructors(documented)))
        expected = fields(documented)
        explained = arguments(
            found.get("Args", "") or (found.get("Attributes", "") * bool(expected))
        )
    else:
        raises = raised(inspect.unwrap(documented))
        explained = arguments(found.get("Args", ""))
        expected = parameters(documented)
        annotation = str(inspect.signature(documented).return_annotation)
        if annotation != "None" and not {"Returns", "Yields"} & set(found):
            lacks.append(f"Returns, of {annotation}")
        if re.search(r"Tensor|ndarray|NDArray|Array\b", annotation):
            given = found.get("Returns", "") + found.get("Yields", "") + found[""]
            if not re.search(r"\([^()]*\)|[Ss]calar|row", given):
                lacks.append("the shape of what it returns")
    if explained != expected:
        lacks.append(f"Args of {expected}, not of {explained}")
    for error in sorted(raises - set(re.findall(r"^    (\w+):", found.get("Raises", ""), re.M))):
        lacks.append(f"Raises {error}")
    return lacks


def constructors(documented: type) -> list[Any]:
    """The functions of this package that make an instance, where it has written any."""
    found = [getattr(documented, name, None) for name in ("__init__", "__post_init__")]
    return [
        function
        for function in found
        if inspect.isfunction(function)
        and function.__module__.startswith("locties")
        and not function.__code__.co_filename.startswith("<")  # what dataclasses generate
    ]


def fields(documented: type) -> list[str]:
    """What an instance is made of, and its docstring has to explain."""
    if hasattr(documented, "_fields"):
        return list(documented._fields)
    if dataclasses.is_dataclass(documented):
        return [field.name for field in dataclasses.fields(documented) if field.init]
    if getattr(documented, "_is_protocol", False) or issubclass(documented, BaseException):
        return []
    return [name for function in constructors(documented) for name in parameters(function)]


@pytest.mark.parametrize("name", LISTED)
def test_a_docstring_is_whole(name: str) -> None:
    documented = resolve(name)
    assert not isinstance(documented, ModuleType)
    lacks = missing(documented)
    assert not lacks, f"{name} lacks {'; '.join(lacks)}"


@pytest.mark.parametrize("name", LISTED)
def test_a_docstring_has_an_example(name: str) -> None:
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(resolve(name)) or "")
    assert examples, f"{name} has no example"
    assert "Example" in sections(resolve(name)), f"the example of {name} has no heading"


@pytest.mark.parametrize("name", METHODS)
def test_a_docstring_of_a_method_is_whole(name: str) -> None:
    owner, _, member = name.rpartition(".")
    lacks = missing(inspect.getattr_static(resolve(owner), member))
    assert not lacks, f"{name} lacks {'; '.join(lacks)}"


@pytest.mark.parametrize("name", IMPLEMENTED)
def test_what_is_implemented_names_its_source(name: str) -> None:
    """A paper, a standard, a dataset, or the word that it is this project's own."""
    source = sections(IMPLEMENTED[name]).get("Source", "")
    known = r"\d{4}|P\.\d+|elementary|this project|GeoNames|NASA|pvlib|Natural Earth|see the|as `"
    assert re.search(known, source), f"{name} names no source: {source!r}"


@pytest.mark.parametrize("name", LISTED)
def test_the_names_in_a_docstring_are_there(name: str) -> None:
    for mentioned in re.findall(r"`(locties(?:\.\w+)+)`", inspect.getdoc(resolve(name)) or ""):
        resolve(mentioned)


def test_few_examples_do_not_run() -> None:
    """Only what needs a download, or a network's weights, is left out."""
    skipped = [
        name
        for name in LISTED
        if any(
            doctest.SKIP in example.options
            for example in doctest.DocTestParser().get_examples(inspect.getdoc(resolve(name)) or "")
        )
    ]
    assert skipped == [
        "locties.data.sentinel2.features",
        "locties.data.sentinel2.read_features",
        "locties.peers.convert_satclip",
        "locties.peers.GeoCLIP",
        "locties.modalities.sentinel2",
    ]


def test_the_reference_lists_every_public_name_and_every_entry() -> None:
    shown = {id(resolve(name)) for name in LISTED}
    exported = {name: getattr(locties, name) for name in locties.__all__}
    absent = [name for name, found in (exported | IMPLEMENTED).items() if id(found) not in shown]
    assert not absent, f"not on the API pages of the book: {absent}"


def test_every_registry_is_looked_at() -> None:
    """A new registry in a module that the reference shows has to name its sources too."""
    modules = {inspect.getmodule(resolve(name)) for name in LISTED} - {None}
    known = {id(resolve(name)) for name in REGISTRIES}
    inner = {"TIERS", "TRANSFORMS", "_ACTIVATIONS"}  # of registries, and of what methods contain
    for module in modules:
        for name, found in vars(module).items():
            if isinstance(found, Registry) and name not in inner:
                assert id(found) in known, f"{module.__name__}.{name}"
