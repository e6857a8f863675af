"""Index keys: what a search looks up, as one 64-bit integer.

A key is the first 8 bytes, big-endian and signed, of SHA-256 over its parts in UTF-8 joined by U+001F (the
unit separator, which no FHIR code, URI or id may hold). PostgreSQL computes the same with ``SQL_KEY64``. The
mapping is a lasting format: rows written under it are searched under it for ever.

That any two of a billion keys are equal has a chance of 3 %. To show, it would have to be the very key asked
for, in a record of the same type.
"""

from functools import lru_cache
from hashlib import sha256
from unicodedata import combining, normalize

SEPARATOR = "\x1f"

SQL_KEY64 = (
    "('x' || encode(substr(sha256(convert_to(array_to_string({parts}::text[], chr(31)), 'UTF8')), 1, 8),"
    " 'hex'))::bit(64)::bigint"
)
"""With ``parts`` filled in by ``ARRAY['code','c','718-7']``, the SQL for ``key64("code", "c", "718-7")``."""


def fresh_key64(*parts: str) -> int:
    """``key64`` without the cache: for parts that hardly come twice, such as identifiers and ids."""
    return int.from_bytes(sha256(SEPARATOR.join(parts).encode()).digest()[:8], "big", signed=True)


@lru_cache(maxsize=16_384)
def key64(*parts: str) -> int:
    """The key of ``parts``, in ``-2**63 <= key < 2**63``. Raises UnicodeEncodeError on a lone surrogate."""
    return fresh_key64(*parts)


@lru_cache(maxsize=16_384)
def token_keys(parameter: str, system: str | None, code: str | None) -> tuple[int, ...]:
    """Under which a token is found (R4 search, token).

    ===============  ==================================  =================
    asked            key                                 kept when
    ===============  ==================================  =================
    ``sys|code``     ``(param, "s|c", system, code)``    both are there
    ``code``         ``(param, "c", code)``              a code is there
    ``sys|``         ``(param, "s|", system)``           a system is there
    ``|code``        ``(param, "|c", code)``             no system is there
    ===============  ==================================  =================
    """
    return fresh_token_keys(parameter, system, code)


def fresh_token_keys(parameter: str, system: str | None, code: str | None) -> tuple[int, ...]:
    """``token_keys`` without the cache."""
    if not system:
        return (fresh_key64(parameter, "|c", code), fresh_key64(parameter, "c", code)) if code else ()
    by_system = key64(parameter, "s|", system)
    if not code:
        return (by_system,)
    return by_system, fresh_key64(parameter, "s|c", system, code), fresh_key64(parameter, "c", code)


def present_key(parameter: str) -> int:
    """Under which everything is found that has any value for the parameter (``:missing``)."""
    return key64(parameter, "present")


@lru_cache(maxsize=4_096)
def below_keys(parameter: str, uri: str) -> tuple[int, ...]:
    """Under which a URI is found by ``:below``: one key for each start of it that ends where a segment does."""
    ends = [place for place, character in enumerate(uri) if character in "/|#" and place > 0]
    return tuple(key64(parameter, "u<", uri[:end].rstrip("/")) for end in (*ends, len(uri)))


@lru_cache(maxsize=8_192)
def fold(text: str) -> str:
    """``text`` as string searches compare it: without accents, case or runs of white space (R4 search, string).

    Compatibility decomposition, combining marks removed, case folded, spaces collapsed. Folding twice changes
    nothing more, and a prefix of a word stays a prefix.
    """
    if not text.isascii():
        # Folding case may yield characters that decompose again, hence twice.
        text = _unmarked(_unmarked(text).casefold())
    return " ".join(text.casefold().split())


def _unmarked(text: str) -> str:
    decomposed = normalize("NFKD", text)
    return "".join(character for character in decomposed if not combining(character))
