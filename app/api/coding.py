"""Content codings: answers of some size as gzip, and bodies that were sent as gzip (RFC 9110, 8.4 and 12.5.3).

The length of a compressed answer tells what is in it twice (BREACH), to somebody who can have a victim's browser ask
with the victim's authority, choose a part of the answer, and watch. Here nothing acts on a cookie or on anything else
that a browser sends by itself; page links, the only secret in an answer, are sealed with a new nonce each time; and
tokens come from an address that is never compressed. Pages shown by cookie must not be answered through this module.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Mapping
from enum import Enum
from functools import lru_cache

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from app.errors import MalformedBody, NotAcceptable, TooLarge, UnsupportedCoding

SMALLEST = 4096
"""Bytes below which an answer is sent as it is: it fits into three packets either way, and compressing takes as
long as reading the record did."""

_LEVEL = 3
"""Of nine. A page of search results shrinks to an eighth, at twice the speed of the usual level 6."""

_IN_A_THREAD = 256 * 1024
"""Bytes from which compressing takes more than a millisecond, for which nobody else should wait."""

_STEP = 1024 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_NAMES = frozenset({"gzip", "x-gzip"})


class Coding(Enum):
    """What a caller accepts."""

    PLAIN = "never compressed"
    WHERE_IT_PAYS = "compressed if large"
    GZIP = "compressed, however small"


@lru_cache(maxsize=256)
def coding(accept_encoding: bytes | None) -> Coding:
    """What ``Accept-Encoding`` allows. Raises NotAcceptable when it allows neither gzip nor the answer as it is.

    Without the header anything might be sent; as it is, is what every client understands.
    """
    if accept_encoding is None:
        return Coding.PLAIN
    weights = _weights(accept_encoding.decode("latin-1"))
    anything = weights.get("*")
    gzip = max((weights[name] for name in _NAMES if name in weights), default=anything or 0.0)
    # Acceptable unless it, or everything that is not named, is excluded.
    plain = weights.get("identity", 0.0 if anything == 0.0 else None)
    if gzip == 0.0:
        if plain == 0.0:
            raise NotAcceptable("An answer is sent as it is or as gzip, and Accept-Encoding excludes both.")
        return Coding.PLAIN
    if plain == 0.0:
        return Coding.GZIP
    return Coding.PLAIN if plain is not None and plain > gzip else Coding.WHERE_IT_PAYS


def _weights(header: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in header.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if name:
            found.setdefault(name, weight(parameters))
    return found


def weight(parameters: list[str]) -> float:
    """``q`` among the parameters of one alternative, from 0 to 1; what is no number weighs nothing."""
    given = next((one[2:] for one in parameters if one.startswith("q=")), "1")
    try:
        return min(1.0, max(0.0, float(given)))
    except ValueError:
        return 0.0


def response(
    content: str | bytes, status: int, headers: Mapping[str, str], media_type: str, accepted: Coding
) -> Response:
    """The answer, compressed where the caller accepts it and it pays."""
    plain = Response(content, status, headers, media_type)
    size = len(plain.body)
    if accepted is Coding.PLAIN or (accepted is Coding.WHERE_IT_PAYS and size < SMALLEST) or not size:
        return plain
    return Gzipped(plain)


class Gzipped(Response):
    """An answer that is compressed as it leaves. Its tag stays: a weak one means the same in every coding."""

    def __init__(self, plain: Response) -> None:
        self.status_code, self.body, self.background = plain.status_code, plain.body, plain.background
        self.raw_headers = [(name, value) for name, value in plain.raw_headers if name != b"content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(self.body) < _IN_A_THREAD:
            self.body = compressed(bytes(self.body))
        else:
            self.body = await asyncio.to_thread(compressed, bytes(self.body))
        self.raw_headers += [
            (b"content-encoding", b"gzip"),
            (b"content-length", str(len(self.body)).encode()),
        ]
        await super().__call__(scope, receive, send)


def streamed(
    pieces: AsyncIterator[str], status: int, headers: Mapping[str, str], media_type: str, accepted: Coding
) -> Response:
    """An answer that is sent while it is read, a piece at a time, compressed where the caller accepts it."""
    if accepted is Coding.PLAIN:
        return StreamingResponse(pieces, status, headers, media_type)
    coded = {**headers, "Content-Encoding": "gzip"}
    return StreamingResponse(_compressing(pieces), status, coded, media_type)


async def _compressing(pieces: AsyncIterator[str]) -> AsyncIterator[bytes]:
    """Each piece can be read as soon as it has come, so that nothing waits for the next."""
    work = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    async for piece in pieces:
        yield work.compress(piece.encode()) + work.flush(zlib.Z_SYNC_FLUSH)
    yield work.flush()


def compressed(body: bytes) -> bytes:
    """``body`` as gzip, the same bytes every time (RFC 1952; no time, no name)."""
    work = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return work.compress(body) + work.flush()


def is_gzip(content_encoding: str) -> bool:
    """Whether a body was sent as gzip rather than as it is. Raises UnsupportedCoding for any other coding."""
    name = content_encoding.strip().lower()
    if name in ("", "identity"):
        return False
    if name not in _NAMES:
        raise UnsupportedCoding
    return True


async def expanded(pieces: AsyncIterator[bytes], limit: int) -> bytes:
    """What was compressed in ``pieces``, at most ``limit`` bytes of it: a small body may stand for a huge one.

    Raises TooLarge as soon as it is, and MalformedBody when it is no gzip or not all of it.
    """
    found, size, work = [], 0, zlib.decompressobj(_GZIP)
    ended = False
    async for piece in pieces:
        left = piece
        while left:
            if work.eof:
                # Members may follow one another (RFC 1952, 2.2).
                work = zlib.decompressobj(_GZIP)
            try:
                part = work.decompress(left, min(_STEP, limit - size + 1))
            except zlib.error as error:
                raise MalformedBody("The body is not the gzip that Content-Encoding says.") from error
            size += len(part)
            if size > limit:
                raise TooLarge
            found.append(part)
            left = work.unused_data if work.eof else work.unconsumed_tail
            ended = work.eof
            if len(part) == _STEP:
                await asyncio.sleep(0)
    if found and not ended:
        raise MalformedBody("The body ends before the gzip that it is does.")
    return b"".join(found)
