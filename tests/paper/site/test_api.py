"""The API reference documents what there is, and each public name once."""

import re
from pydoc import locate

import locties
from locties_paper.site.notebook import REPOSITORY

PAGE = (REPOSITORY / "book" / "api.md").read_text("utf-8")
NAMES = re.findall(r"^\.\. auto\w+:: (\S+)", PAGE, re.M)
MEMBERS = re.findall(r"^\.\. auto\w+:: (\S+)\n +:members: (.+)", PAGE, re.M)


def test_every_documented_name_imports():
    assert [name for name in NAMES if locate(name) is None] == []
    for name, members in MEMBERS:
        owner = locate(name)
        # A field of a dataclass without a default is no attribute of its class.
        known = {*dir(owner), *getattr(owner, "__annotations__", {})}
        assert set(members.split(", ")) <= known, name


def test_every_public_name_is_documented_once():
    documented = [locate(name) for name in NAMES]
    counts = {
        name: sum(each is getattr(locties, name) for each in documented) for name in locties.__all__
    }
    assert {name: count for name, count in counts.items() if count != 1} == {}
