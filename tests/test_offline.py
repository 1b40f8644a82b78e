"""Nothing but `locties data fetch` opens a connection."""

import os
import subprocess
import sys

import pytest

# The interpreter announces every connection and every look-up of a host's name before it is made,
# whichever library asks for it.
SCRIPT = """
import os, pkgutil, sys
from importlib import import_module
from pathlib import Path

import numpy as np

opened = []

def refuse(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg") or event.startswith(
        ("socket.getaddrinfo", "socket.gethostby", "urllib.Request")
    ):
        opened.append((event, arguments))
        raise PermissionError(f"a connection was opened: {event} {arguments}")

sys.addaudithook(refuse)

import locties
for module in pkgutil.walk_packages(locties.__path__, "locties."):
    import_module(module.name)

from locties.data import embedded, fetch, manifest
from locties.data.frozen_encoders import efficientnet_lite0, use_multilingual
from locties.evaluation import BASELINES, TIERS, evaluate
from locties.modalities import MODALITIES

sources = manifest.parse(Path(sys.argv[1]).read_text())
manifest._read = lambda: sources
np.savez_compressed = np.savez  # compression is most of a build's time, and opens nothing
embedded.build(progress=False)

assert not [fault for tier in ("embedded", "open") for _, fault in manifest.verify(tier) if fault]
tasks = [make(points=1000) for tier in TIERS.values() for make in tier.values()]
assert len(tasks) == 16
# All features of the two modalities through frozen encoders would take a minute.
assert use_multilingual()(["Lima"]).shape == (1, 512)
assert efficientnet_lite0(side=64)([np.zeros((16, 16, 3), np.uint8)]).shape == (1, 1280)
through_frozen = ("text", "imagery_frozen")
modalities = [make(100, 0, 40) for name, make in MODALITIES.items() if name not in through_frozen]
assert len(modalities) == 8
encoder = locties.LocationEncoder("spherical_harmonics", "siren", 16, {"degree": 5}, {"hidden": 16})
run = locties.pretrain("melt", modalities, encoder, pairs=240, batch=60, epochs=2, progress=False)
evaluate(run.encoder, tasks, probes="knn", labels="all")
locties.embed_grid(run.encoder, resolution=10)
for name in locties.published():
    locties.load(name)

# Files that are missing are an error, and still no connection.
del os.environ["LOCTIES_MIRROR"]
from locties.data import public
public.night_lights.cache_clear()
for read in (public.tree_plots, public.biomes, public.night_lights):
    try:
        read()
    except manifest.DataError:
        pass
    else:
        raise AssertionError(read)
assert opened == []

# The guard does see what it is there for.
try:
    fetch.fetch(manifest.source("stations"), progress=False)
except manifest.DataError as error:
    assert "a connection was opened" in str(error)
else:
    raise AssertionError("the guard let a download pass")
assert opened
print("no connection")
"""


@pytest.mark.slow
def test_nothing_opens_a_connection_from_import_and_build_to_evaluation(tmp_path, open_mirror):
    script, cache = tmp_path / "script.py", tmp_path / "cache"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(open_mirror.parent / "manifest.yaml")],
        env=os.environ | {"LOCTIES_MIRROR": str(open_mirror), "LOCTIES_CACHE": str(cache)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "no connection"
