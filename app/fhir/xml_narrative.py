"""A narrative's ``div``: a string of markup in JSON, a part of the document in XML (narrative.html, xml.html).

It is carried over as it stands, comments and line ends included, wherever that is well-formed on the other side. What
it may contain is for ``narrative`` to say.
"""

import html
import re
from collections.abc import Mapping, Sequence
from html.entities import html5
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from app.fhir.narrative import XHTML

UNCARRIED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""Characters that no XML document can hold, lone surrogates aside (XML 1.0, section 2.2)."""

REPLACEMENT = "\ufffd"

_DIV = f"{XHTML} div"
_OPENING = f'<div xmlns="{XHTML}"'
_XML = "http://www.w3.org/XML/1998/namespace"
_BEGINS_WITH_ELEMENT = re.compile(r"<[^!?]")
_PREFIX = re.compile(r"<([^\s<>/:!?]+):")
_NAMED = re.compile("&([A-Za-z][A-Za-z0-9]*;)")
_WITHOUT_CONTENT = frozenset({"area", "br", "col", "hr", "img"})


def div_in_xml(markup: str) -> str:
    """``markup``, the value of a Narrative's ``div`` in JSON, as an element for a FHIR XML document.

    Well-formed and in XHTML's namespace whatever it is: HTML's named characters become themselves ("Unicode characters
    SHALL be used instead"), and what is no XHTML ``div`` even then is shown as text.
    """
    plain = UNCARRIED.sub(REPLACEMENT, markup).strip(" \t\r\n")
    for attempt in (plain, _NAMED.sub(_character, plain)):
        root = _root(attempt)
        if root == _DIV:
            return attempt
        if root == "div":
            return _OPENING + attempt.removeprefix("<div")
    return f"{_OPENING}>{escape(plain)}</div>"


def _character(named: re.Match[str]) -> str:
    return html.escape(html5.get(named[1], named[0]))


def div_in_json(markup: str, declared: Mapping[str, Sequence[str]]) -> str:
    """``markup``, an element cut out of a FHIR XML document, as the value of a Narrative's ``div`` in JSON.

    All its elements are XHTML's. ``declared`` has the namespaces of each prefix around it, innermost last. Markup that
    needs one of them, or writes XHTML with a prefix, is written anew, without prefixes, comments and CDATA sections.
    Raises ValueError when that cannot be done, since an attribute is in a namespace.
    """
    if markup.startswith("<div") and _root(markup) == _DIV:
        return markup
    # No more than the markup uses: a document may declare many and have many narratives.
    used = ["", *dict.fromkeys(_PREFIX.findall(markup))]
    prefixes = [prefix for prefix in used if declared.get(prefix, [""])[-1:] == [XHTML]]
    try:
        return _Rewriting().of(markup, prefixes)
    except expat.ExpatError as error:
        raise ValueError("an attribute has a prefix that is declared around the narrative") from error


def _root(markup: str) -> str | None:
    """The outermost element, its namespace before it, when ``markup`` is well-formed XML that begins with it.

    With nothing before it there is no document type declaration either, so that expat has no entity to expand.
    """
    if not _BEGINS_WITH_ELEMENT.match(markup):
        return None
    names: list[str] = []

    def start(name: str, attributes: object) -> None:
        if not names:
            names.append(name)

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = start
    try:
        parser.Parse(markup, True)
    except expat.ExpatError:
        return None
    return names[0]


class _Rewriting:
    """Elements, attributes and text, with XHTML as the one default namespace."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.depth = 0

    def of(self, markup: str, prefixes: Sequence[str]) -> str:
        """``prefixes`` are those that stand for XHTML around ``markup``, the empty one among them or not."""
        declarations = "".join(f' xmlns{":" * bool(prefix)}{prefix}="{XHTML}"' for prefix in prefixes)
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.ordered_attributes = True
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.text
        parser.Parse(f"<around{declarations}>{markup}</around>", True)
        return "".join(self.written)

    def start(self, name: str, attributes: Sequence[str]) -> None:
        self.depth += 1
        if self.depth > 1:
            declaration = f' xmlns="{XHTML}"' if self.depth == 2 else ""
            pairs = zip(attributes[::2], attributes[1::2], strict=True)
            written = "".join(f" {_attribute(name)}={quoteattr(value)}" for name, value in pairs)
            end = "/>" if _local(name) in _WITHOUT_CONTENT else ">"
            self.written.append(f"<{_local(name)}{declaration}{written}{end}")

    def end(self, name: str) -> None:
        self.depth -= 1
        if self.depth and _local(name) not in _WITHOUT_CONTENT:
            self.written.append(f"</{_local(name)}>")

    def text(self, text: str) -> None:
        self.written.append(escape(text))


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _attribute(name: str) -> str:
    namespace, _, local = name.rpartition(" ")
    if namespace not in ("", _XML):
        raise ValueError("an attribute is in a namespace that is not XHTML's")
    return f"xml:{local}" if namespace else local
