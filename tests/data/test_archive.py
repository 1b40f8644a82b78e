"""Tar archives: honest ones are read, all others refused by name."""

import gzip
import io
import struct
import tarfile

import pytest

from locties.data.archive import members
from locties.data.manifest import DataError


def entry(name, content=b"abc", **changes):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def pack(path, *entries, **options):
    with tarfile.open(path, "w", **options) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return path


def read(path, **options):
    return [(member.name, member.read()) for member in members(path, **options)]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_files_come_in_their_order_with_their_content(tmp_path, form):
    long = "folder/" * 30 + "long.tif"  # needs a header of its own
    path = pack(
        tmp_path / "a.tar",
        entry("folder", b"", type=tarfile.DIRTYPE),
        entry("folder/b.tif", b"b", mtime=1.5),
        entry(long, b"a" * 1000),
        format=form,
    )
    assert read(path) == [("folder/b.tif", b"b"), (long, b"a" * 1000)]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (entry("/etc/passwd"), "absolute path"),
        (entry("C:\\chip.tif"), "absolute path"),
        (entry("../chip.tif"), "climbs out"),
        (entry("a/../../chip.tif"), "climbs out"),
        (entry("a\\..\\chip.tif"), "climbs out"),
        (entry("chip.tif", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "is a link to"),
        (entry("chip.tif", b"", type=tarfile.LNKTYPE, linkname="good.tif"), "is a link to"),
        (entry("chip.tif", b"", type=tarfile.CHRTYPE), "neither a plain file nor a folder"),
        (entry("chip.tif", b"", type=tarfile.BLKTYPE), "neither a plain file nor a folder"),
        (entry("chip.tif", b"", type=tarfile.FIFOTYPE), "neither a plain file nor a folder"),
        (entry("chip.tif", b"x" * 2000), "declares 2,000 bytes; at most 1,000"),
    ],
)
def test_a_malicious_member_is_refused_by_name(tmp_path, bad, why):
    path = pack(tmp_path / "bad.tar", entry("good.tif"), bad)
    with pytest.raises(DataError, match=why) as error:
        read(path, largest=1000)
    assert str(path) in str(error.value)
    assert repr(bad[0].name) in str(error.value)


def test_a_size_that_is_only_declared_is_refused_before_it_is_read(tmp_path):
    header = entry("bomb.tif", b"", size=8**11 - 1)[0].tobuf(tarfile.USTAR_FORMAT)
    (tmp_path / "bomb.tar").write_bytes(header)
    with pytest.raises(DataError, match=r"'bomb.tif' declares 8,589,934,591 bytes"):
        read(tmp_path / "bomb.tar")


def test_a_size_hidden_in_extended_attributes_is_refused(tmp_path):
    bad = entry("bomb.tif", b"abc", pax_headers={"size": str(2**40)})
    with pytest.raises(DataError, match=r"'bomb.tif' declares 1,099,511,627,776 bytes"):
        read(pack(tmp_path / "bomb.tar", bad))


def test_a_long_name_of_a_million_bytes_is_refused(tmp_path):
    bad = entry("n" * 10**6)
    with pytest.raises(DataError, match="declares 1,000,001 bytes; at most 65,536"):
        read(pack(tmp_path / "bomb.tar", bad, format=tarfile.GNU_FORMAT))


def test_a_sparse_file_is_refused(tmp_path):
    # 1 TB of nothing, as GNU tar writes it: the size without holes is that of the map alone.
    content = b"1\n1099511627776\n0\n".ljust(512, b"\0")
    attributes = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "bomb.tif",
        "GNU.sparse.realsize": str(2**40),
    }
    path = pack(tmp_path / "bomb.tar", entry("holes", content, pax_headers=attributes))
    with pytest.raises(DataError, match=r"'bomb.tif' is neither a plain file|declares"):
        read(path)


def test_a_chain_of_headers_does_not_exhaust_the_stack(tmp_path):
    info = entry("x", b"", type=tarfile.XHDTYPE)[0]
    (tmp_path / "chain.tar").write_bytes(info.tobuf(tarfile.USTAR_FORMAT) * 20_000)
    with pytest.raises(DataError, match=r"chain.tar is truncated or altered"):
        read(tmp_path / "chain.tar")


def test_a_negative_size_is_refused(tmp_path):
    header = bytearray(entry("chip.tif")[0].tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = b"\xff" * 4 + struct.pack(">q", -512)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "loop.tar").write_bytes(header + bytes(1024))
    with pytest.raises(DataError, match=r"'chip.tif' declares -512 bytes"):
        read(tmp_path / "loop.tar")


def test_too_many_members_are_refused(tmp_path):
    path = pack(tmp_path / "many.tar", *(entry(f"{i}.tif", b"") for i in range(6)))
    assert len(read(path, most=6)) == 6
    with pytest.raises(DataError, match=r"'5.tif' is one more than 5 members"):
        read(path, most=5)


def test_a_compressed_bomb_is_refused_before_it_is_expanded(tmp_path):
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb") as file:
        file.write(bytes(10**7))
    with pytest.raises(DataError, match=r"bomb.tar.gz is compressed \(gzip\)"):
        read(path)


@pytest.mark.parametrize("kept", [100, 512, 600, 1024 + 512, 2048])
def test_a_truncated_archive_is_told_from_a_whole_one(tmp_path, kept):
    path = pack(tmp_path / "a.tar", entry("a", b"a" * 600), entry("b", b"b" * 300))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"a.tar is truncated or altered"):
        read(path)
    with pytest.raises(DataError, match=r"a.tar is truncated or altered"):
        list(members(path))


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
    path = pack(tmp_path / "a.tar", entry("a"), entry("b"))
    content = bytearray(path.read_bytes())
    content[1024 + 150] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="truncated or altered"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"<html>Sorry</html>" * 100])
def test_what_is_no_archive_says_so(tmp_path, content):
    (tmp_path / "page.tar").write_bytes(content)
    with pytest.raises(DataError, match=r"page.tar is truncated or altered"):
        read(tmp_path / "page.tar")
