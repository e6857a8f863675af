"""How the exact bytes of a body are kept: as a Zstandard frame (RFC 8878) made with a dictionary.

Events are alike but for a few values, so that a dictionary of their common text makes them a tenth of their size.
That saves ten times the disk, and most of the time, for it is the writing that costs. The first byte names the
dictionary, and the frame carries a checksum of the bytes. A body that is stored as it is begins with ``{``; the first
ones are zlib streams (RFC 1950) with the same dictionary, which such a stream names itself.

A dictionary is never changed, for what was packed with it can be read with nothing else: a better one is added.
"""

import zlib
from pathlib import Path
from typing import Final

from zstandard import (
    DICT_TYPE_RAWCONTENT,
    ZstdCompressionDict,
    ZstdCompressor,
    ZstdDecompressor,
    ZstdError,
    get_frame_parameters,
)

_LEVEL: Final = 1
_LARGEST: Final = 256 * 1024 * 1024


_TEXT: Final = Path(__file__).with_name("dictionary-1.txt").read_bytes()
_CURRENT: Final = b"\x01"
_DICTIONARIES: Final = {_CURRENT: ZstdCompressionDict(_TEXT, dict_type=DICT_TYPE_RAWCONTENT)}
_DICTIONARIES[_CURRENT].precompute_compress(level=_LEVEL)
# One of each for the process: they are not for several threads at once, and a node's log has one.
_COMPRESSOR: Final = ZstdCompressor(level=_LEVEL, dict_data=_DICTIONARIES[_CURRENT], write_checksum=True)
_DECOMPRESSORS: Final = {name: ZstdDecompressor(dict_data=known) for name, known in _DICTIONARIES.items()}


def pack(body: bytes) -> bytes:
    """``body`` as it is stored."""
    return _CURRENT + _COMPRESSOR.compress(body)


def unpack(stored: bytes) -> bytes:
    """The exact bytes again. Raises ValueError when they cannot be had: the storage was changed."""
    if stored[:1] == b"{":
        return stored
    if stored[:1] not in _DICTIONARIES:
        return _inflated(stored)
    frame = stored[1:]
    try:
        # The frame says how long it will be: asked first, so that a made-up one cannot fill the memory.
        if get_frame_parameters(frame).content_size > _LARGEST:
            raise ValueError("a stored body is larger than any event")
        return _DECOMPRESSORS[stored[:1]].decompress(frame, allow_extra_data=False)
    except ZstdError as error:
        raise ValueError("a stored body is not a frame of a known dictionary") from error


def _inflated(stored: bytes) -> bytes:
    # After the two bytes of the header, the preset dictionary's Adler-32.
    if stored[2:6] != zlib.adler32(_TEXT).to_bytes(4):
        raise ValueError("a stored body is neither a frame nor a stream of a known dictionary")
    try:
        stream = zlib.decompressobj(zlib.MAX_WBITS, _TEXT)
        body = stream.decompress(stored, _LARGEST)
    except zlib.error as error:
        raise ValueError("a stored body is neither a frame nor a stream of a known dictionary") from error
    if not stream.eof or stream.unused_data:
        raise ValueError("a stored body does not end where its stream does")
    return body
