"""What a patch leaves of a narrative that it did not change (R4 http.html#patch)."""

from typing import Any, Final

from app.errors import BusinessRule
from app.fhir.patching.document import Document, Object
from app.fhir.text import parse

_OF_THE_DATA: Final = frozenset({"generated", "extensions"})
_BESIDE_THE_DATA: Final = frozenset({"id", "meta", "text"})


def with_safe_narrative(before: str, after: str) -> str:
    """``after``, without a narrative that tells of ``before``; both are texts of one resource.

    "The server SHALL ensure that the narrative in a resource is not clinically unsafe after the PATCH operation is
    performed." What was generated from data that is no longer so is left away, and can be generated again. What says
    more than the data cannot: a patch has to bring its own then. Raises BusinessRule.
    """
    old, new = parse(before).value, parse(after).value
    if "text" not in new or new["text"] != old.get("text") or _data(old) == _data(new):
        return after
    status = new["text"].get("status") if isinstance(new["text"], dict) else None
    if status == "empty":
        return after
    if status not in _OF_THE_DATA:
        raise BusinessRule(
            "The narrative says more than the data that the patch changes. Change it in the same patch.",
            expression=f"{new.get('resourceType')}.text",
        )
    document = Document(after, "")
    if isinstance(document.root, Object):
        document.root.remove("text")
    return document.finished()


def _data(resource: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if name not in _BESIDE_THE_DATA}
