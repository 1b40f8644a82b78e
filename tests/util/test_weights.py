"""Files of weights that lie about their size, or hold what is no weights."""

import io
import json
import pickle
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from locties._util.weights import check_size, read_weights

BILLION = 10**9


class Call:
    """Pickles to a call of a function."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple:
        return self.reduced


class Storage:
    def __init__(self, values: int) -> None:
        self.id = ("storage", torch.FloatStorage, "0", "cpu", values)


class Pickler(pickle.Pickler):
    def persistent_id(self, value: object) -> object:
        return value.id if isinstance(value, Storage) else None


def tensor(values: int, size: tuple, stride: tuple, offset: int = 0) -> Call:
    rebuild = torch._utils._rebuild_tensor_v2
    return Call(rebuild, Storage(values), offset, size, stride, False, {})


def checkpoint(path: Path, content: object, compressed: bool = False, stored: int = 100) -> None:
    """A file as torch writes it, whose pickle can claim anything."""
    stream = io.BytesIO()
    Pickler(stream, 2).dump(content)
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a/data.pkl", stream.getvalue())
        archive.writestr("a/version", "3\n")
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/data/0", bytes(4 * stored))


PICKLES = {
    "bytearray": Call(bytearray, BILLION),
    "bytearray in settings": {"state_dict": {}, "hyper_parameters": Call(bytearray, BILLION)},
    "an empty tensor": {"a": Call(torch.FloatTensor, BILLION)},
    "a larger storage": {"a": tensor(BILLION, (BILLION,), (1,))},
    "a size below 0": {"a": tensor(100, (-5,), (1,))},
    "a stride below 0": {"a": tensor(100, (5,), (-1,))},
    "an offset below 0": {"a": tensor(100, (5,), (1,), -3)},
    "beyond its storage": {"a": tensor(100, (50, 50), (50, 1))},
    "a size beyond all numbers": {"a": tensor(100, (2**62, 4), (1, 1))},
    "no values": {
        "a": Call(
            torch._utils._rebuild_meta_tensor_no_storage, torch.float32, (BILLION,), (1,), False
        )
    },
    "code": {"a": Call(print, "executed")},
    "nothing": {},
    "a list": [1, 2],
}


@pytest.mark.parametrize("way", PICKLES)
def test_a_checkpoint_that_lies_is_refused_at_once(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "small.ckpt"
    checkpoint(path, PICKLES[way])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"small\.ckpt"):
        read_weights(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    assert not capsys.readouterr().out, "code in the file was run"


def test_a_compressed_checkpoint_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "small.ckpt"
    million = 25 * 10**6
    checkpoint(path, {"a": tensor(million, (million,), (1,))}, compressed=True, stored=million)
    assert path.stat().st_size < 200_000
    with pytest.raises(ValueError, match=r"small\.ckpt is not a checkpoint"):
        read_weights(path)


@pytest.mark.parametrize("kind", ["sparse", "quantised"])
@pytest.mark.filterwarnings("ignore")
def test_tensors_without_plain_values_are_refused(kind: str, tmp_path: Path) -> None:
    if kind == "sparse":
        value = torch.sparse_coo_tensor([[0], [0]], [1.0], (BILLION, BILLION))
    else:
        value = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    torch.save({"a": value}, tmp_path / "small.ckpt")
    with pytest.raises(ValueError, match=r"small\.ckpt: a is sparse, quantised"):
        read_weights(tmp_path / "small.ckpt")


def entry(shape: list[int], end: int, begin: int = 0, kind: str = "F32") -> dict[str, object]:
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


HEADERS = {
    "a longer header": {},
    "beyond the file": {"a": entry([BILLION], 4 * BILLION)},
    "more values than bytes": {"a": entry([BILLION], 16)},
    "offsets turned": {"a": entry([4], 0, 16)},
    "a shape below 0": {"a": entry([-4], 16)},
    "an unknown type": {"a": entry([4], 16, kind="F9999")},
    "two on one place": {"a": entry([4], 16), "b": entry([4], 16)},
    "nested deep": None,
    "no tensor": {},
}


@pytest.mark.parametrize("way", HEADERS)
def test_a_header_of_safetensors_that_lies_is_refused(way: str, tmp_path: Path) -> None:
    header = HEADERS[way]
    text = b"[" * 100_000 if header is None else json.dumps(header).encode()
    length = 2**40 if way == "a longer header" else len(text)
    path = tmp_path / "small.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + text + (bytes(16) if header else b""))
    with pytest.raises(ValueError, match=r"small\.safetensors"):
        read_weights(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_that_share_their_values_are_found(legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "small.ckpt"
    values = torch.zeros(1000)
    state = {f"a.{i}": values.view(10, 100) for i in range(100)}
    state["wide"] = torch.zeros(1).expand(3000, 9000)
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    tensors, _ = read_weights(path)
    for some in ({"wide"}, tensors.keys() - {"wide"}):
        with pytest.raises(ValueError, match=r"small\.ckpt has [\d,]+ bytes, .* Fetch it again"):
            check_size({name: tensors[name] for name in some}, path)
    check_size({"a.0": tensors["a.0"]}, path)


def test_settings_come_with_the_weights(tmp_path: Path) -> None:
    content = {"state_dict": {"a": torch.ones(3)}, "hyper_parameters": {"degree": 4}, "epoch": 3}
    torch.save(content, tmp_path / "a.ckpt")
    tensors, settings = read_weights(tmp_path / "a.ckpt")
    assert (tensors["a"].tolist(), settings) == ([1, 1, 1], {"degree": 4})


@pytest.mark.slow
def test_converting_takes_no_more_memory_than_the_file(tmp_path: Path) -> None:
    """In a process of its own, whose memory is bounded."""
    at = "model.location.nnet."
    values = torch.randn(8, 9)
    state = {f"{at}layers.{i}.{kind}": values for i in range(30_000) for kind in ("weight", "bias")}
    torch.save({"state_dict": state}, tmp_path / "small.ckpt")
    code = (
        "import resource, sys; from locties.peers import convert_satclip\n"
        "now = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (now + 2**29,) * 2)\n"
        "try: convert_satclip('small.ckpt', 'out')\n"
        "except ValueError as error: sys.exit(0 if 'small.ckpt' in str(error) else str(error))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
