"""The files around the code: they agree with each other, and what they tell one to do works."""

import re
import tomllib
from pathlib import Path

import pytest
import torch
import yaml

import locties
from locties.data import manifest
from locties.evaluation import TASKS
from locties.features import FEATURES
from locties.modalities import MODALITIES
from locties.networks import NETWORKS
from locties.objectives import OBJECTIVES

ROOT = Path(__file__).parents[1]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


CITATION = yaml.safe_load(read("CITATION.cff"))
PROJECT = tomllib.loads(read("pyproject.toml"))["project"]
PINNED = dict(re.findall(r"^([\w.-]+)==(\S+)", read("requirements.txt"), re.M))


def bibtex(text: str, key: str) -> dict[str, str]:
    """The fields of one entry, without braces."""
    entry = re.search(rf"@\w+\{{{key},\n(.*?)\n\}}", text, re.S)
    assert entry, f"no entry {key}"
    fields = re.findall(r"^\s+(\w+) = \{(.*)\},?$", entry[1], re.M)
    return {name: re.sub(r"[{}]", "", value) for name, value in fields}


# ------------------------------------------------------------------------------- how to cite it


def test_the_citation_file_has_what_its_format_asks_for():
    """Citation File Format 1.2.0: required keys, and those of people and references."""
    assert CITATION["cff-version"] == "1.2.0"
    for key in ("message", "title", "authors"):
        assert CITATION[key], key
    assert CITATION["type"] in ("software", "dataset")
    assert all(
        "name" in a or {"family-names", "given-names"} <= set(a) for a in CITATION["authors"]
    )
    for reference in CITATION["references"]:
        assert {"type", "title", "authors"} <= set(reference)
        for identifier in reference["identifiers"]:
            assert identifier["type"] in ("doi", "url", "swh", "other")


def test_the_version_and_the_licence_are_the_same_everywhere():
    entry = bibtex(read("book/introduction.md"), "locties")
    versions = {CITATION["version"], PROJECT["version"], locties.__version__, entry["version"]}
    assert len(versions) == 1, versions
    assert CITATION["license"] == PROJECT["license"] == entry["license"] == "MIT"
    assert read("LICENSE").startswith("MIT License")


def test_the_book_cites_what_the_citation_file_says():
    book = read("book/introduction.md")
    own, paper = bibtex(book, "locties"), bibtex(book, "hecht2026")
    assert own["title"] == CITATION["title"]
    assert own["author"] == CITATION["authors"][0]["name"]
    (reference,) = CITATION["references"]
    people = [f"{a['family-names']}, {a['given-names']}" for a in reference["authors"]]
    assert paper["author"].split(" and ") == people
    assert paper["title"] == reference["title"]
    assert paper["year"] == str(reference["year"])
    assert paper["note"] == reference["identifiers"][0]["value"]
    assert paper == bibtex(read("book/references.bib"), "hecht2026")


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "CITATION.cff", "pyproject.toml", "_config.yml"]
)
def test_no_address_is_made_up(name):
    """What has none yet names none: a placeholder would be copied and run."""
    for line in read(name).splitlines():
        assert not re.search(r"<\w+ (of|to) |<your|example\.(org|com)|OWNER|TODO", line), line


def test_the_changelog_keeps_its_form():
    text = read("CHANGELOG.md")
    headings = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", text, re.M)
    assert headings[0] == ("Unreleased", "")
    assert all(re.fullmatch(r"\d{4}-\d{2}-\d{2}", date) for _, date in headings[1:])
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.M)) <= kinds


# ------------------------------------------------------------------------------ the data's terms


@pytest.mark.parametrize("source", manifest.sources(), ids=lambda source: source.name)
def test_every_source_s_terms_are_named(source):
    text = read("LICENSES-DATA.md")
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", text, re.M | re.S))
    named = " ".join(sections[source.name].split())
    for what, expected in (
        ("Licence", source.licence),
        ("Terms", source.terms),
        ("Cite", source.citation),
        ("From", source.where),
    ):
        assert f"**{what}:** {' '.join(expected.split())}" in named


def test_no_source_is_named_that_is_not_there():
    named = re.findall(r"^### (\w+)$", read("LICENSES-DATA.md"), re.M)
    assert named == [source.name for source in manifest.sources()]


# ---------------------------------------------------------------------------------- the recipes

RECIPES = re.findall(r"^### (.+?)\n.*?^```python\n(.*?)^```", read("CONTRIBUTING.md"), re.M | re.S)


def built(name: str, made: object) -> None:
    """That what a recipe added is one of its kind."""
    encoder = {"dim": 4, "feature_options": {}, "network_options": {}}
    lonlat = [[13.4, 52.5], [-60.0, -3.1]]
    if name == "A positional feature":
        assert locties.LocationEncoder("latitude", "linear", **encoder)(lonlat).shape == (2, 4)
    elif name == "A network":
        assert locties.LocationEncoder("xyz", "wide", **encoder)(lonlat).shape == (2, 4)
    elif name == "An objective":
        z, ids = torch.eye(4), torch.arange(4)
        batch = locties.objectives.Batch(z, z + 1, torch.zeros_like(ids), ids)
        assert made()(batch).item() == 1
    elif name == "A modality":
        modality = made(samples=20, validation=10)
        assert modality.samples.shape == (20, 12)
        assert modality.validation.samples.shape == (10, 12)
        assert modality.encoder(8)(modality.samples).shape == (20, 8)
        assert 0.7 < modality.samples.mean() < 1.1, "hundreds of kelvin"
    else:
        task = made(points=100)
        assert task.kind == "regression"
        assert 10 < task.target.mean() < 300


def test_there_are_five_recipes():
    names = ["A modality", "A positional feature", "A network", "An objective", "A task"]
    assert [name for name, _ in RECIPES] == names


@pytest.mark.data
@pytest.mark.parametrize(("name", "code"), RECIPES, ids=[name for name, _ in RECIPES])
def test_a_recipe_runs_and_is_known(name, code):
    registries = (FEATURES, NETWORKS, OBJECTIVES, MODALITIES, TASKS)
    before = [dict(registry) for registry in registries]
    try:
        exec(compile(code, "CONTRIBUTING.md", "exec"), {"__name__": "recipe"})
        added = [
            made
            for registry, old in zip(registries, before, strict=True)
            for key, made in registry.items()
            if key not in old
        ]
        assert len(added) == 1, "one assignment into one registry"
        built(name, added[0])
    finally:
        for registry, old in zip(registries, before, strict=True):
            registry.clear()
            registry.update(old)


def test_the_files_that_contributing_names_are_there():
    for name in re.findall(
        r"`((?:examples|tests|src|book)/[\w./]+|[A-Z][\w-]+\.(?:md|cff))`", read("CONTRIBUTING.md")
    ):
        assert (ROOT / name).exists(), name


# ------------------------------------------------------------------------- checks before and after


def test_commits_are_checked_by_the_pinned_tools():
    ruff, local = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert ruff["rev"] == f"v{PINNED['ruff']}"
    assert [hook["id"] for hook in ruff["hooks"]] == ["ruff-format", "ruff-check"]
    assert [hook["entry"] for hook in local["hooks"]] == [".venv/bin/mypy"], "pinned there"
    assert "mypy" in PINNED


def test_the_workflow_runs_what_continuous_integration_does():
    workflow = yaml.safe_load(read(".github/workflows/book.yml"))
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    ran = [step["run"] for step in build["steps"] if step.get("run", "").startswith("make")]
    commands = re.findall(r"^ *(make .*)$", read(".ci/run"), re.M)
    assert commands[-1] == "make pdf PROFILE=smoke"
    assert [re.sub(r'PROFILE="\$PROFILE"', "PROFILE=smoke", r) for r in ran][
        : len(commands)
    ] == commands
    assert publish["needs"] == "build"
    targets = set(re.findall(r"^(\w+):", read("Makefile"), re.M))
    assert {command.split()[1] for command in ran} <= targets


def evaluated(expression: str, event: str, ref: str, profile: str | None = None) -> object:
    """An expression of a workflow: Python's own operators, but for how they are written."""
    kind = "tag" if ref.startswith("refs/tags/") else "branch"
    values = {"event_name": event, "ref": ref, "ref_type": kind, "profile": profile}
    python = re.sub(
        r"(?:github|inputs)\.(\w+)", r"\1", expression.removeprefix("${{").removesuffix("}}")
    )
    return eval(python.strip().replace("||", "or").replace("&&", "and").replace("\n", " "), values)


@pytest.mark.parametrize(
    ("event", "ref", "asked", "profile", "published"),
    [
        ("push", "refs/heads/main", None, "smoke", False),
        ("pull_request", "refs/pull/7/merge", None, "smoke", False),
        ("workflow_dispatch", "refs/heads/main", "laptop", "laptop", True),
        ("workflow_dispatch", "refs/heads/main", "smoke", "smoke", True),
        ("workflow_dispatch", "refs/heads/other", "laptop", "laptop", False),
        ("push", "refs/tags/v0.1.0", None, "laptop", True),
    ],
)
def test_only_a_book_that_was_asked_for_is_published(event, ref, asked, profile, published):
    """A push would replace a book worth reading by one that shows only that it runs."""
    jobs = yaml.safe_load(read(".github/workflows/book.yml"))["jobs"]
    assert evaluated(jobs["build"]["env"]["PROFILE"], event, ref, asked) == profile
    assert evaluated(jobs["publish"]["if"], event, ref) is published


def test_a_book_is_asked_for_at_a_profile_worth_reading():
    triggers = yaml.safe_load(read(".github/workflows/book.yml"))[True]  # YAML's `on`
    assert triggers["push"] == {"branches": ["main"], "tags": ["v*"]}
    assert triggers["workflow_dispatch"]["inputs"]["profile"]["default"] == "laptop"


def test_actions_are_pinned_by_commit_and_may_do_little():
    text = read(".github/workflows/book.yml")
    workflow = yaml.safe_load(text)
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert len(used) >= 4
    for action, comment in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
        assert re.search(r"# v\d+\.\d+\.\d+", comment), "say which version that commit is"
    assert workflow["permissions"] == {"contents": "read"}
    assert "permissions" not in workflow["jobs"]["build"]
    assert workflow["jobs"]["publish"]["permissions"] == {"pages": "write", "id-token": "write"}
