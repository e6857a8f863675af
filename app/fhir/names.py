"""How things are named in a record: references and identifiers, and their keys."""

from app.fhir.keys import key64
from app.fhir.systems import canonical_system


def identifier_key(system: str, value: str) -> int:
    return key64("id", canonical_system(system), value)


def identifier_text_key(text: str) -> int:
    """Of an identifier written ``system|value``."""
    system, _, value = text.rpartition("|")
    return identifier_key(system, value)


def reference_key(reference: str) -> int:
    """Of ``Type/id``, or of the URL of a foreign one."""
    return key64("ref", reference)


def local_reference(reference: str, base: str) -> str | None:
    """``Type/id`` under ``base`` (with its slash); others as they are; None for one into itself."""
    if reference.startswith("#"):
        return None
    target = reference.removeprefix(base) if base else reference
    return target.partition("/_history/")[0].partition("#")[0]
