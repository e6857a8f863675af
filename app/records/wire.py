"""Bounds on what a source may send: bytes over an answer, growth under compression, entries and pages."""

import zlib
from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import Final

from app.records.unanswered import Down

MOST_BYTES: Final = 16 * 1024 * 1024
MOST_PAGES: Final = 64
MOST_GROWTH: Final = 100
"""Times the bytes received that a body may grow to. FHIR's JSON shrinks to a thirtieth at best."""
FREE_BYTES: Final = 1024 * 1024
"""Up to which a body's growth is not looked at: a small one may be all repetition."""


class TooMuch(Exception):
    """A bound was reached; what came before it may be used, as part of an answer."""


@dataclass(slots=True)
class Allowance:
    """What a source may still send in one answer, over all of its pages."""

    bytes_left: int = MOST_BYTES
    pages_left: int = MOST_PAGES

    def turn_page(self) -> None:
        """Raises TooMuch when there have been enough."""
        if self.pages_left == 0:
            raise TooMuch
        self.pages_left -= 1


async def bounded(chunks: AsyncIterable[bytes], encoding: str, allowance: Allowance) -> bytes:
    """The body that ``chunks`` make, decompressed. Raises TooMuch as soon as it is too large, or Down when broken."""
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise Down("an encoding that was not asked for")
    inflate = zlib.decompressobj(wbits=31) if "gzip" in encoding else None
    received, pieces, size = 0, list[bytes](), 0
    async for chunk in chunks:
        received += len(chunk)
        piece = _inflated(inflate, chunk, allowance.bytes_left - size + 1) if inflate else chunk
        size += len(piece)
        if size > allowance.bytes_left or size > max(FREE_BYTES, MOST_GROWTH * received):
            raise TooMuch
        pieces.append(piece)
    if inflate and not inflate.eof:
        raise Down("a compressed body ends too early")
    allowance.bytes_left -= size
    return b"".join(pieces)


def _inflated(inflate: "zlib._Decompress", chunk: bytes, most: int) -> bytes:
    try:
        return inflate.decompress(chunk, most)
    except zlib.error as error:
        raise Down("a compressed body is broken") from error
