"""A narrative formats, and does nothing else in a reader's browser."""

import pytest

from app.fhir.narrative import narrative_fault

XHTML = '<div xmlns="http://www.w3.org/1999/xhtml">'


@pytest.mark.parametrize(
    "markup",
    [
        "<div>x</div>",
        XHTML + "a<br/>&#160;<a href='Patient/1'>x</a></div>",
        XHTML + "<img src='data: image/png;base64,AA' alt='a'/></div>",
        XHTML + "</div>",
    ],
)
def test_a_narrative_that_formats_is_accepted(markup: str) -> None:
    assert narrative_fault(markup) is None


@pytest.mark.parametrize(
    ("markup", "told"),
    [
        ("x", "well-formed"),
        ("<div>&nbsp;</div>", "well-formed"),
        ("<div><p>x</div>", "well-formed"),
        ("<div/><div/>", "well-formed"),
        ("<p>x</p>", "not div"),
        ("<div><script>x</script></div>", "txt-1"),
        ("<div><form/></div>", "txt-1"),
        ("<div><svg xmlns='http://www.w3.org/2000/svg'/></div>", "namespace"),
        ("<div onclick='x'>y</div>", "event attribute"),
        ("<div><a href=' java&#10;script:x'>y</a></div>", "would run"),
        ("<div><img src='data:text/html,x'/></div>", "would run"),
        ("<!DOCTYPE div [<!ENTITY a 'b'>]><div>&a;</div>", "document type"),
    ],
)
def test_a_narrative_that_could_do_more_is_refused(markup: str, told: str) -> None:
    assert told in (narrative_fault(markup) or "")


@pytest.mark.parametrize(
    "inside",
    [
        '<!--><img src="x" onerror="alert(1)">-->',
        '<!---><img src="x" onerror="alert(1)">-->',
        '<![CDATA[><img src="x" onerror="alert(1)">]]>',
        '<?x ><img src="x" onerror="alert(1)">?>',
    ],
)
def test_what_a_browser_ends_sooner_than_xml_does_is_refused(inside: str) -> None:
    assert narrative_fault(f'<div xmlns="http://www.w3.org/1999/xhtml">{inside}</div>') is not None


def test_a_harmless_comment_is_let_through() -> None:
    assert narrative_fault('<div xmlns="http://www.w3.org/1999/xhtml"><!-- a note --><p>x</p></div>') is None


def test_a_narrative_is_only_so_deep() -> None:
    assert narrative_fault("<div>" + "<b>" * 500 + "</b>" * 500 + "</div>") is None
    assert narrative_fault("<div>" + "<b>" * 600 + "</b>" * 600 + "</div>") is not None
