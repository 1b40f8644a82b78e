"""Frozen features: from a source to a folder and back, through every fault that could be made."""

import errno
import json
import multiprocessing
import os
import signal
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from killed import killed_at_sync
from s2_files import backbone, dataset, pixels, tiff, write_index, write_shard
from torch import nn

from locties.data import fetch, sentinel2
from locties.data.frozen import features
from locties.data.frozen_encoders import FROZEN, of_module, satclip_chip
from locties.data.frozen_folder import read_features
from locties.data.manifest import DataError
from locties.data.sentinel2 import Chips, obtain, true_colour

MIRROR = os.environ.get("LOCTIES_MIRROR")
fork = multiprocessing.get_context("fork")


# ------------------------------------------------------------------------- a small S2-100K


@pytest.fixture
def data(tmp_path):
    return dataset(tmp_path)


def run(data, out, net=None, name="net", **options):
    encoder = of_module(net or backbone(), name, device="cpu")
    return features(Chips(*data), encoder, out, **{"batch": 2, "progress": False} | options)


def result(out):
    """Everything that a run leaves, byte by byte."""
    return {name: (out / name).read_bytes() for name in ("features.npy", "index.csv")} | {
        "manifest": json.loads((out / "manifest.json").read_text())
    }


@pytest.fixture
def whole(data, tmp_path):
    run(data, tmp_path / "whole")
    return result(tmp_path / "whole")


@pytest.mark.skipif(MIRROR is None, reason="LOCTIES_MIRROR names no mirror")
def test_real_chips_lie_where_the_index_says_and_give_features(tmp_path):
    sample = Path(MIRROR) / "s2-100k-sample"
    files = {path.name: path.read_bytes() for path in sorted(sample.glob("*.tif"))}
    shard = write_shard(tmp_path / "shard.tar", files)
    manifest = run(([shard], sample / "index.csv"), tmp_path / "out", batch=8)
    assert (manifest["rows"], manifest["missing"]) == (20, 0)
    assert [problem for _, problem in manifest["unusable"]] == ["is not in the index"] * 3
    index, computed = read_features(tmp_path / "out")
    assert computed.isfinite().all()
    for name, (lon, lat) in zip(index.names, index.lonlat.tolist(), strict=True):
        with rasterio.open(sample / name) as image:
            assert image.lnglat() == pytest.approx((lon, lat), abs=1e-5), name


@pytest.mark.skipif(MIRROR is None, reason="LOCTIES_MIRROR names no mirror")
def test_real_chips_give_features_of_their_true_colours(tmp_path):
    chips, encoder = Chips([Path(MIRROR) / "s2-100k-sample"]), FROZEN["efficientnet_lite0"]("cpu")
    manifest = features(chips, encoder, tmp_path / "out", progress=False)
    assert (manifest["rows"], manifest["shape"]) == (20, [20, 1280])
    assert manifest["encoder"]["sha256"] == encoder.sha256
    _, computed = read_features(tmp_path / "out")
    item = next(item for item in chips.items({"position": []}) if item.row == 4)
    picture = encoder([true_colour(item.content)])
    np.testing.assert_allclose(computed[4], picture[0], atol=1e-5)


# --------------------------------------------------------------------------------- features


def test_features_are_the_backbone_s_at_the_index_s_rows(data, tmp_path):
    net = backbone().train()
    manifest = run(data, tmp_path / "out", net)
    index, computed = read_features(tmp_path / "out")
    assert not net.training
    for name, row in zip(index.names, computed, strict=True):
        number = int(name[6:-4])
        if number in (5, 10, 11, 12):
            assert row.isnan().all(), f"{name} has no usable chip"
        else:
            with torch.no_grad():
                expected = net(
                    satclip_chip(torch.from_numpy(pixels(number).astype(np.float32)))[None]
                )
            assert torch.allclose(row, expected[0], atol=1e-6), name
    assert manifest["shape"] == [13, 6]
    assert (manifest["rows"], manifest["missing"], manifest["complete"]) == (9, 1, True)
    assert [name for name, _ in manifest["unusable"]] == [
        *("patch_5.tif", "stranger.tif", "patch_10.tif", "patch_11.tif")
    ]
    assert [shard["bytes"] for shard in manifest["shards"]] == [p.stat().st_size for p in data[0]]


def test_a_finished_folder_is_not_computed_again(data, tmp_path):
    run(data, tmp_path / "out")
    for shard in data[0]:
        shard.unlink()
    assert run(data, tmp_path / "out")["rows"] == 9


def test_features_that_are_not_finite_count_as_damaged(data, tmp_path):
    class Hot(nn.Module):
        def forward(self, images):
            bright = images.mean((1, 2, 3)) * 1e4
            return torch.stack([bright, torch.where(bright > 1500, 1e6, 0.0)], 1)

    manifest = run(data, tmp_path / "out", Hot(), dtype="float16")
    named = dict(manifest["unusable"])
    assert named["patch_9.tif"] == "its features are not finite in float16"
    assert manifest["rows"] + len(named.keys() - {"stranger.tif"}) + 1 == 13


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Conv2d(13, 2, 9), r"net returns float32 \(2, 2, 248, 248\) for 2 chips"),
        (nn.Flatten(0), r"net returns float32 \(1703936,\) for 2 chips"),
    ],
)
def test_a_backbone_must_return_a_row_for_each_chip(data, tmp_path, net, message):
    with pytest.raises(ValueError, match=message):
        run(data, tmp_path / "out", net)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"dtype": "float61"}, "unknown dtype 'float61': did you mean 'float16'"),
    ],
)
def test_impossible_arguments_are_refused(data, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(data, tmp_path / "out", **options)


def test_an_encoder_of_another_kind_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="'use_multilingual' reads texts, not chips: pass another"):
        features(Chips(*data), FROZEN["use_multilingual"](), tmp_path / "out")


def test_a_file_in_place_of_the_folder_is_refused(data, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ValueError, match="out' is a file: pass a new folder"):
        run(data, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_no_shard_and_the_same_shard_twice_are_refused(data, tmp_path):
    shards, index = data
    with pytest.raises(ValueError, match="no shard is given"):
        run(([], index), tmp_path / "out")
    with pytest.raises(ValueError, match=r"shard-0.tar is given twice"):
        run(([*shards, shards[0]], index), tmp_path / "out")


def test_an_index_of_other_chips_is_refused_at_the_end(data, tmp_path):
    other = write_index(tmp_path / "other.csv", {"x.tif": (0, 0)})
    with pytest.raises(
        DataError, match=r"none of 13 chips of .* can be used. patch_0.tif: is not in the index"
    ):
        run((data[0], other), tmp_path / "out")


# --------------------------------------------------------------------------- broken off, resumed


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [(1, 3, 5), (8, 6, 9)])
def test_killed_at_any_write_and_resumed_it_is_bit_identical(data, tmp_path, whole, numbers):
    out = tmp_path / "out"
    for number in numbers:
        assert killed_at_sync(lambda: run(data, out), number) == -signal.SIGKILL
    run(data, out)
    assert result(out) == whole


def rows_done(out):
    path = out / "manifest.json"
    return json.loads(path.read_text())["rows"] if path.exists() else 0


def slow():
    """It takes half a second for all chips, so that a signal falls into the work."""
    net = backbone()
    net.register_forward_hook(lambda *_: time.sleep(0.1))
    return net


def test_interrupted_it_finishes_a_batch_and_says_how_to_go_on(data, tmp_path, whole, interrupted):
    out = tmp_path / "out"
    said = interrupted(lambda: run(data, out, slow()), lambda: rows_done(out) > 0)
    done = rows_done(out)
    assert 0 < done < 9
    assert said == (f"stopped after {done} of 13 chips: the same call with output='{out}' resumes")
    run(data, out)
    assert result(out) == whole


def test_an_interrupt_while_a_batch_is_written_waits_for_it(
    data, tmp_path, whole, monkeypatch, signals
):
    """It comes before the array is synced; the rows are counted all the same."""
    out, sync = tmp_path / "out", os.fsync

    def signalled(handle):
        if Path(f"/proc/self/fd/{handle}").readlink().name == "features.npy":
            signal.raise_signal(signal.SIGINT)
        sync(handle)

    monkeypatch.setattr(os, "fsync", signalled)
    with pytest.raises(KeyboardInterrupt, match="stopped after 2 of 13 chips"):
        run(data, out)
    monkeypatch.undo()
    assert rows_done(out) == 2
    run(data, out)
    assert result(out) == whole


def test_a_resumed_run_reads_only_what_is_left(data, tmp_path, monkeypatch, whole):
    out = tmp_path / "out"
    assert killed_at_sync(lambda: run(data, out), 13) == -signal.SIGKILL
    done = json.loads((out / "manifest.json").read_text())
    assert (done["rows"], done["position"]) == (4, [0, 4])
    read = []
    decode = sentinel2._decode
    monkeypatch.setattr(sentinel2, "_decode", lambda c: (read.append(len(c)), decode(c))[1])
    run(data, out)
    assert len(read) == 12 - 4
    assert result(out) == whole


@pytest.mark.parametrize("number", [1, 3, 7, 13])
def test_a_full_disk_is_named_and_leaves_what_can_be_resumed(
    data, tmp_path, monkeypatch, whole, number
):
    out = tmp_path / "out"
    calls = 0
    sync = os.fsync

    def fail(handle):
        nonlocal calls
        calls += 1
        if calls == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(DataError, match=f"{out}.*No space left on device"):
            run(data, out)
    run(data, out)
    assert result(out) == whole


def test_a_second_process_is_refused_and_the_first_named(data, tmp_path, whole):
    out = tmp_path / "out"
    begun, go_on = fork.Event(), fork.Event()

    class Slow(nn.Module):
        def forward(self, images):
            begun.set()
            assert go_on.wait(60)
            return images.mean((2, 3))

    first = fork.Process(target=run, args=(data, out, Slow()))
    first.start()
    try:
        assert begun.wait(60)
        with pytest.raises(RuntimeError, match=f"in use by process {first.pid} on "):
            run(data, out)
    finally:
        go_on.set()
        first.join(60)
    assert first.exitcode == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net": backbone(1)}, "another encoder: sha256 "),
        ({"name": "other"}, "another encoder: name net there, other here"),
        ({"batch": 3}, "another settings: batch 2 there, 3 here"),
        ({"dtype": "float16"}, "another settings: dtype float32 there, float16 here"),
    ],
)
def test_another_recipe_is_refused_saying_what_differs(data, tmp_path, whole, change, message):
    with pytest.raises(ValueError, match=message):
        run(data, tmp_path / "whole", **change)
    assert result(tmp_path / "whole") == whole


def test_another_index_or_shard_is_refused(data, tmp_path, whole):
    shards, index = data
    out = tmp_path / "whole"
    other = write_index(tmp_path / "other.csv", {"x.tif": (0, 0)})
    with pytest.raises(ValueError, match="another source: index"):
        run((shards, other), out)
    with pytest.raises(ValueError, match="another source: shards"):
        run((shards[:1], index), out)
    assert result(out) == whole


@pytest.mark.parametrize("name", ["index.csv", "features.npy"])
def test_a_folder_with_files_of_another_kind_is_left_alone(data, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(ValueError, match=f"out holds another {name}, which would be lost"):
        run(data, out)
    assert (out / name).read_text() == "mine"


def test_a_shard_that_changes_between_two_runs_is_refused(data, tmp_path):
    assert killed_at_sync(lambda: run(data, tmp_path / "out"), 13) == -signal.SIGKILL
    write_shard(data[0][0], {"patch_0.tif": tiff(7)})
    with pytest.raises(DataError, match=r"shard-0.tar has changed since its first chips"):
        run(data, tmp_path / "out")


def test_a_bad_shard_stops_the_run_but_loses_nothing(data, tmp_path, whole):
    shards, _ = data
    good = shards[1].read_bytes()
    with tarfile.open(shards[1], "w") as tar:
        tar.addfile(tarfile.TarInfo("../../patch_6.tif"))
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"shard-1.tar is refused: its member '../../patch_6.tif'"):
        run(data, out)
    assert json.loads((out / "manifest.json").read_text())["rows"] == 4
    assert not list(tmp_path.parent.glob("patch_6.tif"))
    shards[1].write_bytes(good)
    run(data, out)
    assert result(out) == whole


# --------------------------------------------------------------------------------- read again


@pytest.mark.parametrize("name", ["features.npy", "manifest.json", "index.csv"])
def test_altered_features_are_recognised(data, tmp_path, whole, name):
    out = tmp_path / "whole"
    (out / name).write_bytes((out / name).read_bytes()[:-40])
    with pytest.raises(DataError, match=f"{name} is (missing or )?altered"):
        read_features(out)


@pytest.mark.parametrize(
    "content",
    [
        *("{", "[]", "null", '"format"', "{}", '{"format": 1}', '{"format": 3}', "[" * 100_000),
        *('{"format": [[]]}', '{"format": 3, "manifest_sha256": null}', '{"a":' * 100_000, "\0"),
    ],
)
def test_a_manifest_that_is_none_is_recognised(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=r"manifest.json (is altered|has format).*; delete"):
        read_features(tmp_path)


@pytest.mark.parametrize("name", ["features.npy", "manifest.json", "index.csv"])
def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path, whole, name):
    path = tmp_path / "whole" / name
    content = path.read_bytes()
    for at in np.random.default_rng(0).integers(0, len(content), 40):
        flipped = bytearray(content)
        flipped[at] ^= 1 << int(at % 8)
        if name == "manifest.json" and flipped.split() == content.split():
            continue  # white space
        path.write_bytes(flipped)
        with pytest.raises(DataError, match=name):
            read_features(tmp_path / "whole")
    path.write_bytes(content)
    read_features(tmp_path / "whole")


@pytest.mark.parametrize("byte", [b"\0", b"(", b"'", b"\n", b"9", b"L", b"\xff"])
def test_any_byte_in_the_head_of_features_is_noticed(tmp_path, whole, byte):
    path = tmp_path / "whole" / "features.npy"
    content = path.read_bytes()
    for at in (6, 8, 10, 12, 40):
        path.write_bytes(content[:at] + byte + content[at + 1 :])
        with pytest.raises(DataError, match=r"features\.npy"):
            read_features(tmp_path / "whole")


def test_unfinished_and_absent_features_say_what_to_run(data, tmp_path):
    with pytest.raises(DataError, match="holds no features; run: locties features"):
        read_features(tmp_path / "none")
    killed_at_sync(lambda: run(data, tmp_path / "out"), 13)
    with pytest.raises(DataError, match=r"is unfinished \(4 rows done\)"):
        read_features(tmp_path / "out")


# ---------------------------------------------------------------------------------- download


class Server:
    """Serves files on localhost; `faults` says after how many bytes each answer breaks off."""

    def __init__(self, folder):
        self.requests, self.faults = [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append((self.path, self.headers["Range"]))
                fault = outer.faults.pop(0) if outer.faults else None
                content = (folder / self.path[1:]).read_bytes()
                if self.headers["Range"]:
                    begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
                    where = f"bytes {begin}-{len(content) - 1}/{len(content)}"
                    self.answer(206, content[begin:], {"Content-Range": where}, fault)
                else:
                    self.answer(200, content, {}, fault)

            def answer(self, status, content, headers=(), fault=None):
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                for name, value in dict(headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content[:fault])

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server(data, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCTIES_CACHE", str(tmp_path / "cache"))
    server = Server(tmp_path)
    yield server
    server.server.shutdown()
    server.server.server_close()


def remote(server):
    return [f"{server.address}/shard-{i}.tar" for i in range(2)], f"{server.address}/index.csv"


def test_shards_are_fetched_taken_up_where_the_server_dropped_and_kept(
    server, tmp_path, whole, capsys
):
    server.faults = [None, 100_000, 200_000]  # the index whole; the shard in three pieces
    run(remote(server), tmp_path / "out")
    assert result(tmp_path / "out") == whole
    assert [asked for asked in server.requests if "shard-0" in asked[0]] == [
        ("/shard-0.tar", None),
        ("/shard-0.tar", "bytes=100000-"),
        ("/shard-0.tar", "bytes=300000-"),
    ]
    assert "shard-0.tar" in capsys.readouterr().err, "no progress was shown"
    before = len(server.requests)
    run(remote(server), tmp_path / "again")
    assert len(server.requests) == before, "what is in the cache was fetched again"
    assert result(tmp_path / "again") == whole


def test_a_process_killed_in_a_download_and_in_its_work_is_resumed(server, tmp_path, whole):
    out = tmp_path / "out"
    server.faults = [None, 100_000]

    def work():
        receive = fetch._receive

        def dies(*arguments):
            try:
                receive(*arguments)
            except OSError:
                os.kill(os.getpid(), signal.SIGKILL)

        fetch._receive = dies
        run(remote(server), out)

    process = fork.Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert killed_at_sync(lambda: run(remote(server), out), 14) == -signal.SIGKILL
    run(remote(server), out)
    assert ("/shard-0.tar", "bytes=100000-") in server.requests
    assert result(out) == whole


def test_a_download_that_is_no_archive_is_not_kept(server, tmp_path):
    (tmp_path / "shard-0.tar").write_bytes(b"no archive at all" * 100)
    with pytest.raises(DataError, match=r"shard-0.tar sends a file that is not a shard"):
        obtain(f"{server.address}/shard-0.tar")
    assert not [path for path in (tmp_path / "cache").rglob("*shard-0*") if path.is_file()]


@pytest.mark.parametrize("content", [b"\n<!DOCTYPE html><p>log in", b"<HTML>", b"<?xml?>", b""])
def test_a_web_page_in_place_of_an_index_is_not_kept(server, tmp_path, content):
    (tmp_path / "index.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"index.csv sends a file that is (a web page|empty)"):
        obtain(f"{server.address}/index.csv", tmp_path / "kept")
    assert not list((tmp_path / "kept").rglob("*index*"))
