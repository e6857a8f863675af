"""Narrative XHTML: well-formed, a ``div``, only what formats (narrative.html, rules txt-1 and txt-2).

What could run or fetch in a reader's browser is refused here, once, so that no page has to wash it out later.
"""

import re
from typing import Any
from xml.parsers import expat

XHTML = "http://www.w3.org/1999/xhtml"

# HTML 4.0 chapters 7 to 11 (without 9.4) and 15, links, images and style attributes (narrative.html, txt-1).
ALLOWED_ELEMENTS = frozenset(
    ["a", "abbr", "acronym", "address", "area", "b", "bdo", "big", "blockquote", "br", "caption", "cite", "code", "col", "colgroup", "dd", "dfn", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "kbd", "li", "map", "ol", "p", "pre", "q", "samp", "small", "span", "strong", "sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "tt", "ul", "var"]
)
_RUNS = re.compile(r"\s*(?:javascript|vbscript|data:(?!image/))", re.IGNORECASE)
_CONTENT = re.compile(r"\S")


class _Refused(Exception):
    """The message says which rule is broken and repeats nothing of the narrative."""


def narrative_fault(markup: str) -> str | None:
    """What is wrong with the value of a Narrative's ``div``, in words; None when nothing is."""
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = reader.element
    parser.CharacterDataHandler = reader.characters
    parser.StartDoctypeDeclHandler = reader.doctype
    try:
        parser.Parse(markup, True)
    except _Refused as refused:
        return str(refused)
    except expat.ExpatError as error:
        return f"it is not well-formed XML ({expat.ErrorString(error.code)}, line {error.lineno})"
    return None if reader.has_content else "the div is empty (txt-2)"


class _Reader:
    def __init__(self) -> None:
        self.has_content = False
        self.is_inside = False

    def element(self, name: str, attributes: dict[str, str]) -> None:
        namespace, _, local = name.rpartition(" ")
        if namespace not in ("", XHTML):
            raise _Refused("an element is not in the XHTML namespace")
        if not self.is_inside and local != "div":
            raise _Refused("the outermost element is not div")
        if local not in ALLOWED_ELEMENTS:
            raise _Refused("an element is not one of those that only format (txt-1)")
        self.is_inside = True
        self.has_content = self.has_content or local == "img"
        for attribute, value in attributes.items():
            _refuse_active(attribute.lower(), value)

    def characters(self, text: str) -> None:
        self.has_content = self.has_content or _CONTENT.search(text) is not None

    def doctype(self, *_: Any) -> None:
        raise _Refused("a document type declaration is not allowed")


def _refuse_active(attribute: str, value: str) -> None:
    if attribute.startswith("on"):
        raise _Refused("an event attribute is not allowed (txt-1)")
    if attribute in ("href", "src") and _RUNS.match(value):
        raise _Refused("a link that would run is not allowed (txt-1)")
