"""XML is read strictly: what is refused is told with its line, its column and its element, and repeats no value."""

import json
import time
from typing import Any

import pytest

from app.errors import MalformedBody
from app.fhir.text import DEEPEST, parse
from app.fhir.xml import from_xml, to_xml

XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'


def patient(inside: str, root: str = "") -> str:
    return f'<Patient xmlns="http://hl7.org/fhir"{root}>{inside}</Patient>'


def read(inside: str, root: str = "") -> Any:
    """The Patient without its type."""
    value = parse(from_xml(patient(inside, root))).value
    assert value.pop("resourceType") == "Patient"
    return value


def refusal(document: str | bytes) -> MalformedBody:
    with pytest.raises(MalformedBody) as raised:
        from_xml(document)
    return raised.value


# What is read


@pytest.mark.parametrize(
    ("inside", "value"),
    [
        ("", {}),
        ('<active value="true"/>', {"active": True}),
        ('<multipleBirthInteger value="+2"/>', {"multipleBirthInteger": 2}),
        ('<id value="a"></id>', {"id": "a"}),
        ("<gender value='male'></gender >", {"gender": "male"}),
        ('<gender value="a&#10;b\n&lt;&#x9;"/>', {"gender": "a\nb <\t"}),
        ('<name id="n"/>', {"name": [{"id": "n"}]}),
        ("<name/>", {"name": [{}]}),  # ele-1 is for the validation to say
        ("<birthDate/>", {"_birthDate": {}}),
        ('<birthDate id="b"/>', {"_birthDate": {"id": "b"}}),
        ('<birthDate id="b" value="2000"/>', {"birthDate": "2000", "_birthDate": {"id": "b"}}),
        (
            '<name><given value="a"/></name><active value="false"/><name><given value="b"/></name>',
            {"name": [{"given": ["a"]}, {"given": ["b"]}], "active": False},
        ),
        (
            '<name><given id="x"/><given value="a"/><given value="b" id="y"/><given value="c"/></name>',
            {"name": [{"given": [None, "a", "b", "c"], "_given": [{"id": "x"}, None, {"id": "y"}, None]}]},
        ),
        ('<name><given id="x"/></name>', {"name": [{"_given": [{"id": "x"}]}]}),
        (
            '<extension id="e" url="u"><valueDecimal value="1.50"/></extension>',
            {"extension": [{"id": "e", "url": "u", "valueDecimal": "1.50"}]},
        ),
        (
            "<contained><Patient><active value='true'/></Patient></contained><contained><Basic/></contained>",
            {"contained": [{"resourceType": "Patient", "active": True}, {"resourceType": "Basic"}]},
        ),
    ],
)
def test_an_element_is_read_as_its_definition_has_it(inside: str, value: dict[str, Any]) -> None:
    found = json.loads(from_xml(patient(inside)), parse_float=str)
    assert found == {"resourceType": "Patient"} | value


@pytest.mark.parametrize(
    "document",
    [
        '<?xml version="1.0"?>' + patient('<active value="true"/>'),
        '<?xml version="1.0" encoding="utf-8" standalone="yes"?>\n' + patient('<active value="true"/>\n'),
        "\ufeff" + patient('<active value="true"/>'),
        '<f:Patient xmlns:f="http://hl7.org/fhir"><f:active value="true"/></f:Patient>',
        "<!-- 9434765919 --><?xml-stylesheet href='x'?>"
        + patient("<!-- a --><active value='true'><?p?></active>"),
        patient("\r\n\t <![CDATA[ ]]><active\n value='true'\n>&#32;</active>") + "\n<!-- end -->",
        patient(
            '<active value="true"/>',
            ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="http://hl7.org/fhir p.xsd"',
        ),
    ],
)
def test_what_says_the_same_is_read_the_same(document: str) -> None:
    assert from_xml(document) == from_xml(document.encode()) == '{"resourceType":"Patient","active":true}'


# Narratives


def div(inside: str, root: str = "") -> Any:
    return read(f'<text><status value="empty"/>{inside}</text>', root)["text"]["div"]


@pytest.mark.parametrize(
    "markup",
    [
        f"<div {XHTML}/>",
        f"<div {XHTML}></div >",
        f"<div {XHTML}>/></div>",
        f"<div {XHTML}>\r\n<!-- a --><p class='x'>é &#160; &amp;<br/><![CDATA[</div>]]></p></div>",
        f"<div {XHTML}><div><div/></div></div>",
        f'<div {XHTML}><a xml:lang="en" href="#"/></div>',
    ],
)
def test_a_narrative_stays_as_it_stands(markup: str) -> None:
    assert div(markup) == markup
    assert div(markup + " ") == markup
    assert read(f"<text>{markup}</text><active value='true'/>")["active"] is True


@pytest.mark.parametrize(
    "markup",
    [
        "<h:div><h:p class='x'>a&lt;<!-- b --><h:br/><![CDATA[<]]></h:p></h:div>",
        f"<div {XHTML}><h:p class='x'>a&lt;<h:br/>&lt;</h:p></div>",
        "<x:div xmlns:x='http://www.w3.org/1999/xhtml'><x:p class='x'>a&lt;<h:br></h:br>&lt;</x:p></x:div>",
    ],
)
def test_a_narrative_that_needs_a_prefix_is_written_without(markup: str) -> None:
    found = div(markup, ' xmlns:h="http://www.w3.org/1999/xhtml"')
    assert found == f'<div {XHTML}><p class="x">a&lt;<br/>&lt;</p></div>'


def test_a_prefix_stands_for_what_was_declared_last_around_it() -> None:
    xhtml, other = "http://www.w3.org/1999/xhtml", "urn:other"
    plain = f"<div {XHTML}><p></p></div>"
    for root, meta, text in ((xhtml, other, xhtml), (other, other, xhtml), (other, xhtml, xhtml)):
        found = read(
            f'<meta xmlns:h="{meta}"/><text xmlns:h="{text}"><h:div><h:p/></h:div></text>',
            f' xmlns:h="{root}"',
        )
        assert found["text"]["div"] == plain
    found = read(f'<meta xmlns:h="{other}"/><text><h:div><h:p/></h:div></text>', f' xmlns:h="{xhtml}"')
    assert found["text"]["div"] == plain


def test_a_narrative_that_declares_its_own_prefix_is_written_without() -> None:
    assert (
        div('<x:div xmlns:x="http://www.w3.org/1999/xhtml"><x:p/></x:div>') == f"<div {XHTML}><p></p></div>"
    )


def test_a_narrative_in_the_documents_own_default_namespace_gets_a_declaration() -> None:
    document = (
        f'<f:Patient xmlns:f="http://hl7.org/fhir" {XHTML}><f:text><div title="&quot;&#10;">x<p/></div>'
        "</f:text></f:Patient>"
    )
    text = json.loads(from_xml(document))["text"]
    assert text == {"div": f"<div {XHTML} title='\"&#10;'>x<p></p></div>"}


@pytest.mark.parametrize(
    ("markup", "told"),
    [
        ("<div>x</div>", "div has to be in the namespace http://www.w3.org/1999/xhtml"),
        (f"<p {XHTML}>x</p>", "not in the namespace http://hl7.org/fhir"),
        (f'<div {XHTML}><svg xmlns="http://www.w3.org/2000/svg"/></div>', "not in XHTML's namespace"),
        (f'<div {XHTML}><p xmlns="">x</p></div>', "not in XHTML's namespace"),
        (
            f'<div {XHTML}><i:include xmlns:i="http://www.w3.org/2001/XInclude" href="/etc/passwd"/></div>',
            "namespace",
        ),
        ('<h:div y:a="1" xmlns:y="urn:y"/>', "attribute in a narrative"),
        ('<h:div o:a="1"/>', "attribute in a narrative"),
        (f"<div {XHTML}>" + "<b>" * 512 + "</b>" * 512 + "</div>", "512 levels"),
        (f"<div {XHTML}/><div {XHTML}/>", "only once"),
    ],
)
def test_a_narrative_that_is_no_xhtml_is_refused(markup: str, told: str) -> None:
    error = refusal(
        patient(f"<text>{markup}</text>", ' xmlns:h="http://www.w3.org/1999/xhtml" xmlns:o="urn:o"')
    )
    assert told in str(error)
    assert (error.issues[0].expression or "").startswith("Patient.text.")


# What is refused


@pytest.mark.parametrize(
    ("document", "told", "expression"),
    [
        ("<Patient/>", "not in the namespace http://hl7.org/fhir, at line 1, column 1", "Patient"),
        ('<Patient xmlns="http://hl7.org/fhir/"/>', "not in the namespace", "Patient"),
        ('<patient xmlns="http://hl7.org/fhir"/>', "not a resource type of R4", "patient"),
        ('<Resource xmlns="http://hl7.org/fhir"/>', "not a resource type of R4", "Resource"),
        (patient("<nam/>"), "knows no such element here, at line 1, column 38", "Patient.nam"),
        (patient("\n <name>\n  <x9434765919 value='1'/></name>"), "line 3, column 3", "Patient.name[0].x9434765919"),
        (patient("<é9434765919/>"), "no such element", "Patient"),
        (patient('<x:active xmlns:x="urn:x" value="true"/>'), "not in the namespace", "Patient.active"),
        (patient('<active xmlns="" value="true"/>'), "not in the namespace", "Patient.active"),
        (patient('<valueString value="x"/>'), "no such element", "Patient.valueString"),
        (patient('<resourceType value="x"/>'), "no such element", "Patient.resourceType"),
        (patient('<name><id value="x"/></name>'), "no such element", "Patient.name[0].id"),
        (patient('<extension><url value="x"/></extension>'), "no such element", "Patient.extension[0].url"),
        (patient("<active><value/></active>"), "no such element", "Patient.active.value"),
        (patient('<active value="true"><value/></active>'), "no such element", "Patient.active.value"),
        (patient("", ' id="x"'), "no such attribute", "Patient"),
        (patient("", ' value="x"'), "no such attribute", "Patient"),
        (patient('<name value="x"/>'), "no such attribute", "Patient.name[0]"),
        (patient('<name/><name url="x"/>'), "no such attribute", "Patient.name[1]"),
        (patient('<active value="true" url="x"/>'), "no such attribute", "Patient.active"),
        (patient('<active xml:lang="en" value="true"/>'), "no such attribute", "Patient.active"),
        (patient('<f:active f:value="true" xmlns:f="http://hl7.org/fhir"/>'), "no such attribute", "Patient.active"),
        (
            patient(
                '<name x:schemaLocation="a b" xmlns:x="http://www.w3.org/2001/XMLSchema-instance"/>'
            ),
            "no such attribute",
            "Patient.name[0]",
        ),
        (patient('<contained id="x"><Basic/></contained>'), "no such attribute", "Patient.contained[0]"),
        (patient("<name>Ann</name>"), "text between elements", "Patient.name[0]"),
        (patient("<active>true</active>"), "text between elements", "Patient.active"),
        (patient('<active value="true">x</active>'), "text between elements", "Patient.active"),
        (patient("&#160;"), "text between elements", "Patient"),
        (patient("<![CDATA[x]]>"), "text between elements", "Patient"),
        (patient('<active value="true"/><active id="x"/>'), "only once", "Patient.active"),
        (patient('<active id="x"/><active value="true"/>'), "only once", "Patient.active"),
        (patient("<contact><name/><name/></contact>"), "only once", "Patient.contact[0].name"),
        (patient("<contained/>"), "a resource is needed here", "Patient.contained[0]"),
        (patient("<contained><Basic/><Basic/></contained>"), "only once", "Patient.contained[0]"),
        (patient("<contained><Basic/><Patient/></contained>"), "only once", "Patient.contained[0]"),
        (patient("<contained><Foo/></contained>"), "not a resource type", "Patient.contained[0].Foo"),
        (patient("<contained><Basic><x/></Basic></contained>"), "no such element", "Patient.contained[0].x"),
        (patient('<active value="1"/>'), "form of its type", "Patient.active"),
        (patient('<active value=" true" id="x"/>'), "form of its type", "Patient.active"),
        (patient('<active value=""/>'), "form of its type", "Patient.active"),
        (patient('<multipleBirthInteger value="1.0"/>'), "form of its type", "Patient.multipleBirth"),
        (patient('<multipleBirthInteger value="01"/>'), "form of its type", "Patient.multipleBirth"),
        (patient(f'<multipleBirthInteger value="{"9" * 65}"/>'), "form of its type", "Patient.multipleBirth"),
        *(
            (patient(f'<extension url="u"><valueDecimal value="{value}"/></extension>'), "form", None)
            for value in ("+1", ".5", "1.", "01", "1,5", "NaN", "1e", "١", "1\n", "1e999", "1e99999999", "1" * 65)
        ),
        ('<Bundle xmlns="http://hl7.org/fhir"><entry/><entry><resource><Patient><x/></Patient></resource></entry>'
         "</Bundle>", "no such element", "Bundle.entry[1].resource.x"),
    ],
)  # fmt: skip
def test_what_r4_does_not_have_is_refused_with_its_element(
    document: str, told: str, expression: str | None
) -> None:
    error = refusal(document)
    assert str(error).startswith("The body is not FHIR XML: ")
    assert told in str(error) and ", at line " in str(error)
    assert error.issues[0].code == "structure"
    assert expression is None or error.issues[0].expression == expression


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (b"", "line 1, column 1"),
        (b"\x00", "U+0000"),
        (b'{"resourceType":"Patient"}', "line 1, column 1"),
        (patient("<name>").encode(), "mismatched tag"),
        (patient("&nbsp;").encode(), "undefined entity"),
        (patient("<x:name/>").encode(), "unbound prefix"),
        (patient("<gender value='&#1;'/>").encode(), "invalid character"),
        (patient("<gender value='\ufffe'/>").encode(), "well-formed XML"),
        (patient("<gender value='\x1f'/>").encode(), "well-formed XML"),
        (patient("<gender value='a\x00b'/>").encode(), "U+0000"),
        (patient("<gender value='a\x00b'/>"), "U+0000"),
        (patient("<gender value='a' value='b'/>").encode(), "duplicate attribute"),
        (patient("<gender value='<'/>").encode(), "well-formed XML"),
        ((patient("") * 2).encode(), "junk after document element"),
        (patient("<gender value='\xff'/>").encode("latin-1"), "not UTF-8"),
        (b"\xff\xfe" + patient("").encode("utf-16-le"), "not UTF-8"),
        (patient("").encode("utf-16-be"), "not UTF-8, or has U+0000"),
        (patient("").encode("utf-16-le"), "not UTF-8, or has U+0000"),
        (b"\xed\xa0\x80", "not UTF-8"),
        ("\ud800", "not UTF-8"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?>' + patient(""), "UTF-8 is needed"),
        (f'<?xml version="1.0" encoding="UTF-16"?>{patient("")}'.encode(), "UTF-8 is needed"),
        (f'<?xml version="1.0" encoding="utf-7"?>{patient("")}'.encode(), "UTF-8 is needed"),
        ('<?xml version="1.1"?>' + patient(""), "XML"),
        (" <?xml version='1.0'?>" + patient(""), "well-formed XML"),
    ],
)
def test_what_is_not_well_formed_utf_8_is_refused(document: bytes | str, told: str) -> None:
    error = refusal(document)
    assert str(error).startswith("The body is not ") and told in str(error)


LAUGHS = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(12))
# An expat that came to expand this would overflow the stack, and end the process.
CHAIN = "".join(f'<!ENTITY a{n + 1} "&a{n};">' for n in range(100_000))


@pytest.mark.parametrize(
    "document",
    [
        "<!DOCTYPE Patient>" + patient(""),
        "<!DOCTYPE Patient [",
        '<!DOCTYPE Patient SYSTEM "file:///etc/passwd">' + patient(""),
        '<!DOCTYPE Patient PUBLIC "p" "http://127.0.0.1/x.dtd">' + patient("&x;"),
        '<!-- a -->\n<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + patient('<id value="&e;"/>'),
        '<!DOCTYPE x [<!ENTITY % e SYSTEM "http://127.0.0.1/x"> %e;]>' + patient(""),
        f'<!DOCTYPE x [<!ENTITY a0 "lol">{LAUGHS}]>' + patient('<id value="&a12;"/>'),
        f'<!DOCTYPE x [<!ENTITY a0 "lol">{LAUGHS}]>' + patient(f"<text><div {XHTML}>&a12;</div></text>"),
        f'<!DOCTYPE x [<!ENTITY a0 "x">{CHAIN}]>' + patient("&a100000;"),
        '<!DOCTYPE x [<!ATTLIST Patient id CDATA "x">]>' + patient(""),
    ],
    ids=range(10),
)
def test_a_document_type_declaration_is_refused_before_any_entity_exists(document: str) -> None:
    assert "a document type declaration is not allowed, at line " in str(refusal(document))


def test_xinclude_is_refused() -> None:
    include = '<i:include xmlns:i="http://www.w3.org/2001/XInclude" href="file:///etc/passwd" parse="text"/>'
    error = refusal(patient(include))
    assert "not in the namespace" in str(error) and error.issues[0].expression == "Patient.include"


def test_no_refusal_repeats_a_value() -> None:
    number = "943 476 5919"
    for inside in (f"<name>{number}</name>", f'<active value="{number}"/>', f'<name value="{number}"/>'):
        error = refusal(patient(inside))
        assert number not in str(error) and number not in str(error.issues)


# Size


def extensions(levels: int, inside: str) -> str:
    return patient('<extension url="u">' * levels + inside + "</extension>" * levels)


@pytest.mark.parametrize(
    ("document", "is_read"),
    [
        (extensions(31, '<valueString value="x"/>'), True),  # the root, and 31 times an array and an object
        (extensions(31, '<valueString id="y" value="x"/>'), True),
        (extensions(31, '<valueMeta><profile value="x"/></valueMeta>'), False),
        (extensions(30, '<valueMeta><profile value="x"/></valueMeta>'), True),
        (extensions(31, "<valueCodeableConcept><coding/></valueCodeableConcept>"), False),
        (extensions(32, ""), False),
        (extensions(100_000, ""), False),
        ("<a>" * 100_000, False),
        ('<Bundle xmlns="http://hl7.org/fhir">' + "<entry><resource><Bundle>" * 22, False),
    ],
    ids=range(9),
)
def test_depth_is_counted_in_levels_of_json(document: str, is_read: bool) -> None:
    if is_read:
        text = from_xml(document)
        assert parse(text).text == text == from_xml(to_xml(text))
        assert text.count("{") + text.count("[") >= DEEPEST - 3
    else:
        refusal(document)


def test_a_long_attribute_is_read_whole() -> None:
    value = "QUJD" * 2**18
    assert read(f'<photo><data value="{value}"/></photo>') == {"photo": [{"data": value}]}


def test_a_document_of_many_megabytes_is_read_to_the_byte() -> None:
    """The parser is fed a megabyte at a time, and narratives are cut out by their place in the whole."""
    name = '<name><text value="' + "é" * 500_000 + '"/></name>'
    markup = [f"<div {XHTML}>{'ü' * 700_000}{n}<br/></div>" for n in range(3)]
    contained = "".join(f"<contained><Basic><text>{div}</text></Basic></contained>" for div in markup)
    found = read(contained + name * 3)
    assert [basic["text"]["div"] for basic in found["contained"]] == markup
    assert found["name"] == [{"text": "é" * 500_000}] * 3


def test_many_declarations_and_many_narratives_do_not_multiply() -> None:
    declared = "".join(f' xmlns:p{n}="http://www.w3.org/1999/xhtml"' for n in range(5000))
    contained = "<contained><Basic><text><p7:div>x</p7:div></text></Basic></contained>" * 5000
    began = time.process_time()
    found = read(contained, declared)
    assert len(found["contained"]) == 5000
    assert found["contained"][4999]["text"] == {"div": f"<div {XHTML}>x</div>"}
    # Half a second in all; some eighty seconds when each narrative is parsed with every declaration.
    assert time.process_time() - began < 10
