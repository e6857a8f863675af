"""How the words of a name sound: Metaphone, by which ``phonetic`` finds Smyth for Smith (R4 Patient, phonetic).

The only module that knows jellyfish. The sounds are kept in index keys, so a change of the algorithm is a change of
``app.fhir.indexing.RULES``.
"""

import re

from jellyfish import metaphone

from app.fhir.keys import fold, fresh_key64

_APOSTROPHE = re.compile("['\N{RIGHT SINGLE QUOTATION MARK}\N{MODIFIER LETTER APOSTROPHE}`]")
_WORD = re.compile(r"[^\W_]+")


def sounds_of(text: str) -> tuple[str, ...]:
    """How each word sounds, in their order, each once. A word of other letters than English ones is its own sound."""
    words = _WORD.findall(_APOSTROPHE.sub("", fold(text)))
    return tuple(dict.fromkeys(_sound(word) for word in words))


def _sound(word: str) -> str:
    return (metaphone(word) or word) if word.isascii() and word.isalpha() else word


def sound_key(parameter: str, sound: str) -> int:
    """Under which a name is found that holds such a word."""
    return fresh_key64(parameter, "metaphone", sound)
