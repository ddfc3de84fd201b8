import gzip
import os
import struct
import tracemalloc

import numpy as np
import pytest

from accelnn.datasets import read_idx
from accelnn.datasets._idx import write_idx
from accelnn.errors import DatasetError

VALUES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
CONTENT = bytes([0, 0, 8, 3]) + struct.pack(">III", 2, 3, 4) + bytes(range(24))


def refused(path, content):
    """Write `content`, and return what reading it complains about."""
    path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        read_idx(path)
    message = str(caught.value)
    assert str(path) in message
    assert "Replace the file" in message
    return message


@pytest.mark.parametrize("name", ["v-idx3-ubyte", "v-idx3-ubyte.gz"])
def test_reads_what_the_format_says(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(CONTENT) if name.endswith(".gz") else CONTENT)
    values = read_idx(path)
    assert values.dtype == np.uint8
    np.testing.assert_array_equal(values, VALUES)


def test_values_can_be_written_to(tmp_path):
    path = tmp_path / "v-idx3-ubyte"
    path.write_bytes(CONTENT)
    values = read_idx(str(path))
    values[0, 0, 0] = 77
    assert path.read_bytes() == CONTENT


def test_writes_what_the_format_says(tmp_path):
    path = tmp_path / "v-idx3-ubyte"
    write_idx(path, VALUES)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("shape", [(), (5,), (0,), (0, 28, 28), (2, 1, 2, 1, 2)])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_any_number_of_dimensions_comes_back(tmp_path, shape, suffix):
    values = np.full(shape, 9, dtype=np.uint8)
    write_idx(tmp_path / f"v{suffix}", values)
    back = read_idx(tmp_path / f"v{suffix}")
    assert back.shape == shape
    np.testing.assert_array_equal(back, values)


def test_non_contiguous_values_are_written_in_order(tmp_path):
    write_idx(tmp_path / "v", VALUES.T)
    np.testing.assert_array_equal(read_idx(tmp_path / "v"), VALUES.T)


def test_compressed_file_holds_neither_time_nor_name(tmp_path):
    write_idx(tmp_path / "a.gz", VALUES)
    write_idx(tmp_path / "b.gz", VALUES)
    written = (tmp_path / "a.gz").read_bytes()
    assert written == (tmp_path / "b.gz").read_bytes()
    flags, time = written[3], written[4:8]
    assert (flags, time) == (0, bytes(4))


def test_only_unsigned_bytes_are_written(tmp_path):
    with pytest.raises(TypeError, match="uint8, not int64"):
        write_idx(tmp_path / "v", VALUES.astype(np.int64))


def test_missing_file(tmp_path):
    with pytest.raises(DatasetError, match=r"none-ubyte is missing.*found nothing.*put the file"):
        read_idx(tmp_path / "none-ubyte")


def test_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(DatasetError, match=r"is missing.*found a folder"):
        read_idx(tmp_path)


@pytest.mark.parametrize("path", [None, 3, b"/x", ["v"]])
def test_what_is_no_path(path):
    with pytest.raises(TypeError, match=r"path must be a str.*, got .*: call read_idx\('train"):
        read_idx(path)


@pytest.mark.skipif(os.name != "posix", reason="a feature of POSIX")
def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/zero"):
        with pytest.raises(DatasetError, match=r"found a FIFO, a device .*, which is no regular"):
            read_idx(path)


def test_truncated_values(tmp_path):
    message = refused(tmp_path / "v", CONTENT[:-5])
    assert "truncated" in message
    assert "(2, 3, 4), which takes 24 bytes, but 19 follow" in message


def test_trailing_bytes(tmp_path):
    message = refused(tmp_path / "v", CONTENT + b"!!")
    assert "too long" in message
    assert "24 bytes, but 26 follow" in message


def test_truncated_header(tmp_path):
    message = refused(tmp_path / "v", CONTENT[:10])
    assert "truncated: expected a header of 16 bytes for 3 dimensions, found 10 bytes" in message


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "found nothing"),
        (CONTENT[:3], "found 00 00 08"),
        (b"<html>", "found 3c 68 74 6d"),
        (bytes([0, 0, 0x0A]) + CONTENT[3:], "found 00 00 0a 03"),
        (bytes([1, 0, 8]) + CONTENT[3:], "found 01 00 08 03"),
    ],
    ids=["empty", "cut short", "html", "no type", "first byte"],
)
def test_wrong_magic_number(tmp_path, content, found):
    message = refused(tmp_path / "v", content)
    assert "expected it to begin with 00 00, a type (one of 08, 09" in message
    assert found in message


def test_more_dimensions_than_numpy_has(tmp_path):
    message = refused(tmp_path / "v", bytes([0, 0, 8, 100]) + struct.pack(">I", 1) * 100 + b"x")
    assert "found one of 100 dimensions" in message


def test_gzip_with_a_wrong_checksum(tmp_path):
    packed = bytearray(gzip.compress(CONTENT))
    packed[-8] ^= 0xFF
    assert "corrupted" in (message := refused(tmp_path / "v.gz", packed))
    assert "CRC check failed" in message


def test_gzip_with_a_broken_stream(tmp_path):
    packed = bytearray(gzip.compress(CONTENT))
    packed[10] = 0xFF
    assert "corrupted" in (message := refused(tmp_path / "v.gz", packed))
    assert "while decompressing" in message


def test_gzip_cut_short(tmp_path):
    assert "end-of-stream" in refused(tmp_path / "v.gz", gzip.compress(CONTENT)[:-12])


def test_not_gzip_at_all(tmp_path):
    message = refused(tmp_path / "v.gz", CONTENT)
    assert "expected a gzip stream" in message
    assert "Not a gzipped file" in message


def test_gzip_under_the_name_of_a_raw_file(tmp_path):
    message = refused(tmp_path / "v", gzip.compress(CONTENT))
    assert "found 1f 8b" in message
    assert "must be named .gz" in message


TYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}


@pytest.mark.parametrize("number", TYPES)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_every_type_comes_in_the_byte_order_of_this_machine(tmp_path, number, suffix):
    dtype = np.dtype(TYPES[number])
    values = np.array([[1, 2, 100], [-3 if dtype.kind != "u" else 3, 0, 127]], dtype)
    content = bytes([0, 0, number, 2]) + struct.pack(">II", 2, 3)
    content += values.astype(dtype.newbyteorder(">")).tobytes()
    path = tmp_path / f"v{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    found = read_idx(path)
    assert found.dtype == dtype
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, values)
    found[...] = 0
    assert f"takes {values.nbytes} bytes, but {values.nbytes - 1} follow" in refused(
        tmp_path / "cut", content[:-1]
    )


def header(*sizes, number=8):
    return bytes([0, 0, number, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes)


def peak_of(call):
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_no_more_is_decompressed_than_the_header_declares(tmp_path):
    """A megabyte of gzip may hold a gigabyte."""
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=9) as packed:
        packed.write(header(100, 100))
        for _ in range(1000):
            packed.write(bytes(1_000_000))
    assert path.stat().st_size < 2_000_000

    def read():
        with pytest.raises(
            DatasetError, match=r"too long.* 10,000 bytes, but 10,001 or more follow"
        ):
            read_idx(path)

    assert peak_of(read) < 1_000_000


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("sizes", [(1 << 30, 1 << 30), (1 << 31,) * 40, (0xFFFFFFFF,)])
def test_no_memory_is_asked_for_that_the_file_cannot_fill(tmp_path, sizes, suffix):
    content = header(*sizes, number=0x0E) + bytes(100)

    def read():
        message = refused(tmp_path / f"v{suffix}", gzip.compress(content) if suffix else content)
        assert "truncated" in message

    assert peak_of(read) < 1_000_000


def test_dimensions_that_numpy_cannot_multiply(tmp_path):
    message = refused(tmp_path / "v", header(0, *[0xFFFFFFFF] * 5))
    assert "expected a shape that NumPy can hold" in message
