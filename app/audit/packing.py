"""How the exact bytes of a body are kept: as a zlib stream (RFC 1950) with a preset dictionary.

Events are alike but for a few values, so that a dictionary of their common text makes them a tenth of their size.
That saves ten times the disk, and most of the time, for it is the writing that costs. The stream names its dictionary
(DICTID) and carries a checksum of the bytes. A body that is stored as it is begins with ``{``, which no stream does.

A dictionary is never changed, for what was packed with it can be read with nothing else: a better one is added.
"""

import zlib
from pathlib import Path
from typing import Final

_WINDOW_BITS: Final = 13
_LEVEL: Final = 3
_MEMORY: Final = 5
_LARGEST: Final = 256 * 1024 * 1024

_CURRENT: Final = Path(__file__).with_name("dictionary-1.txt").read_bytes()
_DICTIONARIES: Final = {zlib.adler32(dictionary).to_bytes(4): dictionary for dictionary in (_CURRENT,)}
# To copy a stream that has read the dictionary is quicker than to read it again.
_PRIMED: Final = zlib.compressobj(
    _LEVEL, zlib.DEFLATED, _WINDOW_BITS, _MEMORY, zlib.Z_DEFAULT_STRATEGY, _CURRENT
)


def pack(body: bytes) -> bytes:
    """``body`` as it is stored."""
    stream = _PRIMED.copy()
    return stream.compress(body) + stream.flush()


def unpack(stored: bytes) -> bytes:
    """The exact bytes again. Raises ValueError when they cannot be had: the storage was changed."""
    if stored[:1] == b"{":
        return stored
    try:
        # After the two bytes of the header, the preset dictionary's Adler-32.
        stream = zlib.decompressobj(zlib.MAX_WBITS, _DICTIONARIES[stored[2:6]])
        body = stream.decompress(stored, _LARGEST)
    except (KeyError, zlib.error) as error:
        raise ValueError("a stored body is not a stream of a known dictionary") from error
    if not stream.eof or stream.unused_data:
        raise ValueError("a stored body does not end where its stream does")
    return body
