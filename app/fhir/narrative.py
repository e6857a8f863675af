"""Narrative XHTML: well-formed, a ``div``, only what formats (narrative.html, rule txt-1).

An empty div (txt-2) is harmless, and R4's own examples have some: it is let through.
What could run or fetch in a reader's browser is refused here, once, so that no page has to wash it out later.
"""

import re
from typing import Any
from xml.parsers import expat

XHTML = "http://www.w3.org/1999/xhtml"

# HTML 4.0 chapters 7 to 11 (without 9.4) and 15, links, images and style attributes (narrative.html, txt-1).
_FORMATS = re.compile(
    "a|abbr|acronym|address|area|b|bdo|big|blockquote|br|caption|cite|code|col|colgroup|dd|dfn|div|dl|dt|em|"
    "h[1-6]|hr|i|img|kbd|li|map|ol|p|pre|q|samp|small|span|strong|sub|sup|"
    "table|tbody|td|tfoot|th|thead|tr|tt|ul|var"
)
_RUNS = re.compile(r"(?:javascript|vbscript|data):(?!image/)", re.IGNORECASE)
_IGNORED_BY_BROWSERS = re.compile(r"[\x00-\x20]+")


class _RefusedError(Exception):
    """The message says which rule is broken and repeats nothing of the narrative."""


def narrative_fault(markup: str) -> str | None:
    """What is wrong with the value of a Narrative's ``div``, in words; None when nothing is."""
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = reader.element
    parser.EndElementHandler = reader.end
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.CommentHandler = reader.comment
    parser.StartCdataSectionHandler = reader.section
    parser.ProcessingInstructionHandler = reader.instruction
    try:
        parser.Parse(markup, True)
    except _RefusedError as refused:
        return str(refused)
    except expat.ExpatError as error:
        return f"it is not well-formed XML ({expat.ErrorString(error.code)}, line {error.lineno})"
    return None


DEEPEST = 512
"""Elements inside one another, the ``div`` counted."""


class _Reader:
    def __init__(self) -> None:
        self.is_inside = False
        self.depth = 0

    def element(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise _RefusedError(f"elements are nested more than {DEEPEST} deep")
        namespace, _, local = name.rpartition(" ")
        if namespace not in ("", XHTML):
            raise _RefusedError("an element is not in the XHTML namespace")
        if not self.is_inside and local != "div":
            raise _RefusedError("the outermost element is not div")
        if not _FORMATS.fullmatch(local):
            raise _RefusedError("an element is not one of those that only format (txt-1)")
        self.is_inside = True
        for attribute, value in attributes.items():
            _refuse_active(attribute.lower(), value)

    def end(self, name: str) -> None:
        self.depth -= 1

    def doctype(self, *_: Any) -> None:
        raise _RefusedError("a document type declaration is not allowed")

    # What XML and a browser's HTML end at different places: what follows would be text here and an element there.

    def comment(self, text: str) -> None:
        if text.startswith((">", "->")):
            raise _RefusedError("a comment that a browser would end sooner is not allowed")

    def section(self) -> None:
        raise _RefusedError("a CDATA section is not allowed")

    def instruction(self, *_: Any) -> None:
        raise _RefusedError("a processing instruction is not allowed")


def _refuse_active(attribute: str, value: str) -> None:
    if attribute.startswith("on"):
        raise _RefusedError("an event attribute is not allowed (txt-1)")
    if attribute in ("href", "src") and _RUNS.match(_IGNORED_BY_BROWSERS.sub("", value)):
        raise _RefusedError("a link that would run is not allowed (txt-1)")
