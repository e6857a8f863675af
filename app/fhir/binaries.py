"""Binary: bytes in a resource, and the resource that stands for them in access control (R4 binary).

"Given that the Binary resource contains very few elements that can be used to determine the sensitivity of the data and
relationships to individuals, the referenced resource stands in as a proxy equivalent for this purpose."
"""

import binascii
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import BusinessRule
from app.fhir.references import read_reference
from app.fhir.text import member_spans

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,127}"
_MEDIA_TYPE = re.compile(
    rf'({_WORD}/{_WORD})(?:[ \t]*;[ \t]*{_WORD}=(?:{_WORD}|"[ !#-\[\]-~]{{0,256}}"))*', re.ASCII
)
_OPAQUE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Content:
    """What a Binary holds. ``media_type`` is one that a header can carry; ``context`` is as written, or empty."""

    data: bytes
    media_type: str
    context: str = ""

    @property
    def essence(self) -> str:
        """The media type without its parameters, in lower case."""
        return self.media_type.partition(";")[0].strip().lower()


def media_type(text: str) -> str | None:
    """``text`` as a media type (RFC 9110, 8.3.1), white space aside; None if it is none."""
    trimmed = " ".join(text.split())
    return trimmed if _MEDIA_TYPE.fullmatch(trimmed) else None


def unwrapped(text: str) -> Content | None:
    """The bytes of a Binary's ``text``; None if they are not base64. What is no media type is octets."""
    members = {name: text[slice(*span)] for name, span in member_spans(text).items()}
    try:
        data = b64decode(json.loads(members.get("data", '""')), validate=False)
    except (binascii.Error, ValueError):
        return None
    said = media_type(json.loads(members.get("contentType", '""')))
    return Content(data, said or _OPAQUE, _reference(json.loads(members.get("securityContext", "{}"))))


def wrapped(content: Content, id: str | None) -> str:
    """The text of a Binary with these bytes."""
    resource: dict[str, Any] = {"resourceType": "Binary"}
    if id is not None:
        resource["id"] = id
    resource["contentType"] = content.media_type
    if content.context:
        resource["securityContext"] = {"reference": content.context}
    if content.data:
        resource["data"] = b64encode(content.data).decode("ascii")
    return json.dumps(resource, ensure_ascii=False, separators=(",", ":"))


def security_context(text: str) -> Mapping[str, Any]:
    """The members of a Binary's ``text`` by which ``stands_for`` tells."""
    spans = member_spans(text)
    if "securityContext" not in spans:
        return {}
    return {"securityContext": json.loads(text[slice(*spans["securityContext"])])}


def stands_for(binary: Mapping[str, Any], base_url: str) -> str | None:
    """The resource of our own, as ``Type/id``, that decides who may have the bytes; None if it names none.

    Raises BusinessRule when it names one in a way that does not tell which: whose the bytes are must be known.
    """
    if "securityContext" not in binary:
        return None
    named = read_reference(_reference(binary["securityContext"]), base_url)
    if named.where != "here" or named.type == "Binary":
        raise BusinessRule(
            "securityContext does not tell whose these bytes are. Refer to a resource that is kept here, and is no "
            "Binary: Patient/[id] or DocumentReference/[id].",
            expression="Binary.securityContext",
        )
    return named.relative


def _reference(context: Any) -> str:
    reference = context.get("reference") if isinstance(context, dict) else None
    return reference if isinstance(reference, str) else ""
