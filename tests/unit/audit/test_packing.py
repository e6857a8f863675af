"""Bodies as they are stored: the exact bytes come back, and nothing else does."""

import json
import zlib
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zstandard import ZstdCompressor

from app.audit import packing
from app.audit.event import audit_event
from tests.fakes_audit import NODE, NOON, an_entry

GOLDEN = Path(__file__).parents[2] / "golden" / "audit"
DICTIONARY = Path(packing.__file__).with_name("dictionary-1.txt")


@given(st.binary(max_size=2000))
def test_the_exact_bytes_come_back(body: bytes) -> None:
    assert packing.unpack(packing.pack(body)) == body


def test_the_dictionary_is_the_one_that_older_bodies_were_packed_with() -> None:
    digest = "cb182367fcc27d3a789ba2bed2ae7f54fe48ad1b88b46853acac95c1ea8684fd"
    assert sha256(DICTIONARY.read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("name", ["event-read.packed.hex", "event-read.packed-as-zlib.hex"])
def test_a_body_packed_last_year_is_still_read(name: str) -> None:
    packed = bytes.fromhex((GOLDEN / name).read_text())
    assert packing.unpack(packed) == (GOLDEN / "event-read.json").read_bytes().strip()


def test_a_body_that_was_stored_as_it_is_is_read_as_it_is() -> None:
    assert packing.unpack(b'{"a":1}') == b'{"a":1}'


def test_a_packed_event_is_a_tenth_of_its_size() -> None:
    body = audit_event(an_entry(), node=NODE, recorded=NOON)
    assert len(packing.pack(body)) * 7 < len(body)
    assert json.loads(packing.unpack(packing.pack(body)))["resourceType"] == "AuditEvent"


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"x",
        bytes(20),
        b"\x01",
        b"\x01" + bytes(20),
        ZstdCompressor().compress(b"{}"),
        zlib.compress(b"{}"),
        b"\x02" + packing.pack(b"{}")[1:],
        b"\x01" + ZstdCompressor(write_content_size=False).compress(b"{}"),
        # A frame of some kilobytes that would be a gigabyte in memory.
        b"\x01" + ZstdCompressor().compress(bytes(257 * 2**20)),
        packing.pack(b"{}")[:-1],
        packing.pack(b"{}") + b"!",
        packing.pack(b"abc")[:-4] + bytes(4),
    ],
)
def test_what_was_not_packed_here_is_refused(stored: bytes) -> None:
    with pytest.raises(ValueError, match="stored body"):
        packing.unpack(stored)


@given(st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(draw: st.DataObject) -> None:
    """A frame may have bits without meaning; whatever is read in the end is committed to by the leaf."""
    body = b'{"resourceType":"AuditEvent","outcome":"0"}'
    packed = bytearray(packing.pack(body))
    packed[draw.draw(st.integers(1, len(packed) - 1))] ^= draw.draw(st.integers(1, 255))
    with suppress(ValueError):
        assert packing.unpack(bytes(packed)) == body
