"""Content codings: what Accept-Encoding allows is what is sent, and what was compressed stays within its bound."""

import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.coding import SMALLEST, Coding, Gzipped, coding, compressed, expanded, is_gzip, response
from app.errors import BadRequest, MalformedBody, NotAcceptable, TooLarge, UnsupportedMediaType

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("accepted", "meant"),
    [
        (None, Coding.PLAIN),
        ("", Coding.PLAIN),
        ("gzip", Coding.WHERE_IT_PAYS),
        ("x-gzip", Coding.WHERE_IT_PAYS),
        ("GZIP", Coding.WHERE_IT_PAYS),
        ("gzip, deflate, br", Coding.WHERE_IT_PAYS),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", Coding.WHERE_IT_PAYS),
        ("*", Coding.WHERE_IT_PAYS),
        ("br", Coding.PLAIN),
        ("gzip;q=0", Coding.PLAIN),
        ("gzip;q=0, *", Coding.PLAIN),
        ("gzip ; q=0.000", Coding.PLAIN),
        ("gzip;q=nonsense", Coding.PLAIN),
        ("notgzip", Coding.PLAIN),
        ("identity", Coding.PLAIN),
        ("gzip;q=0.5, identity", Coding.PLAIN),
        ("gzip, identity;q=0.5", Coding.WHERE_IT_PAYS),
        ("gzip, identity", Coding.WHERE_IT_PAYS),
        ("identity;q=0, gzip;q=0.1", Coding.GZIP),
        ("*;q=0, gzip", Coding.GZIP),
        ("*;q=0, identity", Coding.PLAIN),
        ("gzip;q=0, gzip", Coding.PLAIN),
    ],
)
def test_accept_encoding_is_read_with_its_weights(accepted: str | None, meant: Coding) -> None:
    assert coding(None if accepted is None else accepted.encode()) is meant


@pytest.mark.parametrize("accepted", ["*;q=0", "identity;q=0", "identity;q=0, gzip;q=0", "br, *;q=0"])
def test_who_accepts_neither_gzip_nor_the_plain_answer_gets_none(accepted: str) -> None:
    with pytest.raises(NotAcceptable, match="Accept-Encoding"):
        coding(accepted.encode())


@given(st.text(st.characters(codec="latin-1"), max_size=60))
def test_whatever_is_accepted_only_our_own_refusal_comes_out(header: str) -> None:
    try:
        assert isinstance(coding(header.encode("latin-1")), Coding)
    except NotAcceptable:
        return


@pytest.mark.parametrize(
    ("size", "accepted", "is_compressed"),
    [
        (SMALLEST - 1, Coding.WHERE_IT_PAYS, False),
        (SMALLEST, Coding.WHERE_IT_PAYS, True),
        (SMALLEST, Coding.PLAIN, False),
        (1, Coding.GZIP, True),
        (0, Coding.GZIP, False),
    ],
)
def test_an_answer_is_compressed_from_some_size_on(size: int, accepted: Coding, is_compressed: bool) -> None:
    answer = response("x" * size, 200, {"ETag": 'W/"1"'}, "application/fhir+json", accepted)
    assert isinstance(answer, Gzipped) is is_compressed


@given(st.binary(max_size=20_000))
def test_what_is_compressed_expands_to_the_same_bytes_and_the_same_every_time(body: bytes) -> None:
    assert gzip.decompress(compressed(body)) == body
    assert compressed(body) == compressed(body)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("", False), ("identity", False), ("gzip", True), ("X-GZIP", True), (" gzip ", True)],
)
def test_a_body_says_how_it_was_sent(name: str, meant: bool) -> None:
    assert is_gzip(name) is meant


@pytest.mark.parametrize(
    "name", ["br", "deflate", "zstd", "gzip, gzip", "gzip, identity", "compress", "gzip2"]
)
def test_any_other_coding_of_a_body_is_refused_and_told_what_would_do(name: str) -> None:
    with pytest.raises(UnsupportedMediaType) as refused:
        is_gzip(name)
    assert refused.value.headers == {"Accept-Encoding": "gzip"}


async def _pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@given(st.binary(max_size=5_000), st.integers(1, 700))
async def test_a_body_expands_to_what_it_was_however_it_is_cut(body: bytes, size: int) -> None:
    assert await expanded(_pieces(gzip.compress(body), size), 5_000) == body


@given(st.lists(st.binary(max_size=300), max_size=4), st.integers(1, 90))
async def test_members_that_follow_one_another_are_one_body(parts: list[bytes], size: int) -> None:
    sent = b"".join(gzip.compress(part) for part in parts)
    assert await expanded(_pieces(sent, size), 5_000) == b"".join(parts)


async def test_the_bound_is_the_expanded_size_to_the_byte() -> None:
    sent = gzip.compress(b"x" * 1000)
    assert len(await expanded(_pieces(sent, 7), 1000)) == 1000
    with pytest.raises(TooLarge):
        await expanded(_pieces(sent, 7), 999)


async def test_a_bomb_is_refused_without_being_expanded() -> None:
    work = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(work.compress(bytes(MIB)) for _ in range(256)) + work.flush()
    assert len(bomb) < MIB
    seen = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal seen
        async for piece in _pieces(bomb, 4096):
            seen += len(piece)
            yield piece

    with pytest.raises(TooLarge):
        await expanded(counted(), 2 * MIB)
    assert seen <= 4 * 4096, "no more was read than is needed to know"


async def test_a_bomb_in_one_piece_takes_no_more_room_than_its_bound() -> None:
    work = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(work.compress(bytes(MIB)) for _ in range(64)) + work.flush()
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            await expanded(_pieces(bomb, len(bomb)), 2 * MIB)
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "sent",
    [
        b"{}",
        gzip.compress(b"{}" * 50)[:-1],
        gzip.compress(b"{}" * 50)[:12],
        gzip.compress(b"{}")[:-8] + bytes(8),
        gzip.compress(b"{}") + b"more",
        b"\x1f",
        zlib.compress(b"{}"),
    ],
)
async def test_what_is_no_gzip_or_not_all_of_it_is_refused(sent: bytes) -> None:
    with pytest.raises(MalformedBody):
        await expanded(_pieces(sent, 5), MIB)


@given(st.binary(max_size=200))
async def test_whatever_is_sent_as_gzip_only_our_own_refusals_come_out(sent: bytes) -> None:
    try:
        await expanded(_pieces(sent, 64), MIB)
    except BadRequest:
        return
