"""FHIR XML is well-formed whatever a record holds, in R4's order, and says so when a record has no place in it."""

from typing import Any

import pytest

from app.errors import MalformedBody, NotAcceptable
from app.fhir.xml import from_xml, to_xml

DECLARED = '<?xml version="1.0" encoding="UTF-8"?>'
XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'
QUOTED = XHTML.replace('"', r"\"")


def patient(members: str) -> str:
    """What the Patient has inside in XML."""
    text = '{"resourceType":"Patient"' + ("," + members if members else "") + "}"
    document = to_xml(text)
    beginning, ending = f'{DECLARED}<Patient xmlns="http://hl7.org/fhir">', "</Patient>"
    if document == f'{DECLARED}<Patient xmlns="http://hl7.org/fhir"/>':
        return ""
    assert document.startswith(beginning) and document.endswith(ending)
    return document[len(beginning) : -len(ending)]


@pytest.mark.parametrize(
    ("members", "inside"),
    [
        ("", ""),
        ('"active":true,"id":"a"', '<id value="a"/><active value="true"/>'),
        ('"multipleBirthInteger":2', '<multipleBirthInteger value="2"/>'),
        ('"_active":{"id":"x"},"active":false', '<active id="x" value="false"/>'),
        ('"_active":{"extension":[{"url":"u"}]}', '<active><extension url="u"/></active>'),
        ('"name":[{}]', "<name/>"),
        ('"name":[{"id":"n","text":"t"}]', '<name id="n"><text value="t"/></name>'),
        (
            '"name":[{"given":["a",null],"_given":[null,{"id":"x"},{"id":"y"}]}]',
            '<name><given value="a"/><given id="x"/><given id="y"/></name>',
        ),
        (
            '"name":[{"_given":[{"id":"x"}],"given":["a","b"]}]',
            '<name><given id="x" value="a"/><given value="b"/></name>',
        ),
        ('"name":[{"given":[null,"a"]}]', '<name><given value="a"/></name>'),
        ('"name":[null,{"text":"t"}]', '<name><text value="t"/></name>'),
        ('"name":[],"active":null,"_active":null,"maritalStatus":null,"contact":null', ""),
        ('"name":[{"given":[],"id":null}]', "<name/>"),
        ('"gender":"\\"<&>\'\\t\\n\\r"', "<gender value=\"&quot;&lt;&amp;>'&#9;&#10;&#13;\"/>"),
        ('"gender":"\\u0001\\u001f\\ufffe\\uffff\\u007f"', '<gender value="\ufffd\ufffd\ufffd\ufffd\x7f"/>'),
        ('"extension":[{"url":"\\"&","id":"<"}]', '<extension id="&lt;" url="&quot;&amp;"/>'),
    ],
)  # fmt: skip
def test_a_member_is_written_as_its_definition_has_it(members: str, inside: str) -> None:
    assert patient(members) == inside


@pytest.mark.parametrize(
    "literal", ["1.50", "1.0E2", "1.0e+2", "0.0000001", "-0", "-0.00", "1E-7", "10.91968939701716128"]
)
def test_a_number_is_written_as_it_was(literal: str) -> None:
    text = f'{{"resourceType":"Patient","extension":[{{"url":"u","valueDecimal":{literal}}}]}}'
    assert f'<valueDecimal value="{literal}"/>' in to_xml(text)
    assert from_xml(to_xml(text)) == text


def test_instants_are_written_as_they_were() -> None:
    text = '{"resourceType":"Observation","issued":"2020-01-01T10:00:00.10Z","effectiveDateTime":"2020-05"}'
    assert '<effectiveDateTime value="2020-05"/><issued value="2020-01-01T10:00:00.10Z"/>' in to_xml(text)


def test_each_contained_resource_keeps_the_fields_of_its_type() -> None:
    assert patient(
        '"contained":[{"resourceType":"Basic","id":"a"},{"name":"n","resourceType":"Organization","active":true}]'
    ) == (
        '<contained><Basic><id value="a"/></Basic></contained>'
        '<contained><Organization><active value="true"/><name value="n"/></Organization></contained>'
    )


def test_pretty_puts_each_element_on_its_line_and_leaves_narratives_alone() -> None:
    text = (
        '{"resourceType":"Basic","code":{"text":"</a> />"},"extension":[{"url":"/>","id":"x"}],'
        '"text":{"div":"<div>\\n<p>x</p></div>"},"_created":{"id":"/","extension":[{"url":"u"}]}}'
    )
    assert to_xml(text, pretty=True) == (
        f'{DECLARED}\n<Basic xmlns="http://hl7.org/fhir">\n'
        f"  <text>\n    <div {XHTML}>\n<p>x</p></div>\n  </text>\n"
        '  <extension id="x" url="/>"/>\n'
        '  <code>\n    <text value="&lt;/a> />"/>\n  </code>\n'
        '  <created id="/">\n    <extension url="u"/>\n  </created>\n'
        "</Basic>\n"
    )
    assert from_xml(to_xml(text, pretty=True)) == from_xml(to_xml(text))


def narrative(markup: str) -> str:
    written = to_xml('{"resourceType":"Patient","text":{"div":' + markup + "}}")
    assert from_xml(written)
    return written.partition("<text>")[2].partition("</text>")[0]


@pytest.mark.parametrize(
    ("markup", "written"),
    [
        (f'"<div {QUOTED}>a<br/></div>"', f"<div {XHTML}>a<br/></div>"),
        (f'" <div {QUOTED}/>\\n"', f"<div {XHTML}/>"),
        (f'"<div {QUOTED}><!-- a --></div><!-- b -->"', f"<div {XHTML}><!-- a --></div><!-- b -->"),
        ('"<div>a</div>"', f"<div {XHTML}>a</div>"),
        ('"<div/>"', f"<div {XHTML}/>"),
        ('"<h:div xmlns:h=\\"http://www.w3.org/1999/xhtml\\"/>"', '<h:div xmlns:h="http://www.w3.org/1999/xhtml"/>'),
        ('"<div>a&nbsp;b&eacute;&amp;&lt;&#160;</div>"', f"<div {XHTML}>a\u00a0bé&amp;&lt;&#160;</div>"),
        ('"<div>&nbsp;&LT;script&GT;&AMP;lt;&QUOT;</div>"', f"<div {XHTML}>\u00a0&lt;script&gt;&amp;lt;&quot;</div>"),
        ('"<div>&nope;</div>"', f"<div {XHTML}>&amp;nope;</div>"),
        ('"a < b ]]>"', f"<div {XHTML}>a &lt; b ]]&gt;</div>"),
        ('""', f"<div {XHTML}></div>"),
        ('"<p>a</p>"', f"<div {XHTML}>&lt;p&gt;a&lt;/p&gt;</div>"),
        ('"<divx/>"', f"<div {XHTML}>&lt;divx/&gt;</div>"),
        ('"<div>"', f"<div {XHTML}>&lt;div&gt;</div>"),
        ('"<div/><div/>"', f"<div {XHTML}>&lt;div/&gt;&lt;div/&gt;</div>"),
        ('"<div xmlns=\\"urn:x\\"/>"', f'<div {XHTML}>&lt;div xmlns="urn:x"/&gt;</div>'),
        ('"<x:div/>"', f"<div {XHTML}>&lt;x:div/&gt;</div>"),
        ('"<div>\\u0001</div>"', f"<div {XHTML}>\ufffd</div>"),
        ('"<?xml version=\\"1.0\\"?><div/>"', f'<div {XHTML}>&lt;?xml version="1.0"?&gt;&lt;div/&gt;</div>'),
        ('"<!DOCTYPE a [<!ENTITY b \\"c\\">]><div>&b;</div>"',
         f'<div {XHTML}>&lt;!DOCTYPE a [&lt;!ENTITY b "c"&gt;]&gt;&lt;div&gt;&amp;b;&lt;/div&gt;</div>'),
    ],
)  # fmt: skip
def test_a_narrative_is_well_formed_and_xhtml_whatever_it_is(markup: str, written: str) -> None:
    assert narrative(markup) == written


def test_a_narrative_with_a_chain_of_entities_is_never_parsed() -> None:
    """An expat that came to expand this would overflow the stack, and end the process."""
    chain = "".join(f"<!ENTITY a{n + 1} '&a{n};'>" for n in range(100_000))
    for before in ("", " ", "\ufeff", "<!-- -->", "<?p?>"):
        markup = f"{before}<!DOCTYPE x [<!ENTITY a0 'x'>{chain}]><div>&a100000;</div>"
        assert narrative(f'"{markup}"').startswith(f"<div {XHTML}>")


@pytest.mark.parametrize(
    ("members", "told", "expression"),
    [
        ('"nam":1', "knows no such element", "Patient.nam"),
        ('"not a name":1', "knows no such element", "Patient"),
        ('"name":[{"nam":1}]', "knows no such element", "Patient.name[0].nam"),
        ('"_id":{"id":"x"},"_name":[]', "knows no such element", "Patient._name"),
        ('"extension":[{"_url":{"id":"x"}}]', "knows no such element", "Patient.extension[0]._url"),
        ('"name":[{"_id":{}}]', "knows no such element", "Patient.name[0]._id"),
        ('"text":{"_div":{"id":"x"}}', "knows no such element", "Patient.text._div"),
        ('"fhir_comments":["x"]', "knows no such element", "Patient"),
        ('"active":[true]', "a string, a number or a boolean", "Patient.active"),
        ('"active":{}', "a string, a number or a boolean", "Patient.active"),
        ('"active":true,"_active":[]', "an object", "Patient.active"),
        ('"name":{}', "an array", "Patient.name"),
        ('"name":[{"given":"a"}]', "an array", "Patient.name[0].given"),
        ('"name":[{"given":["a"],"_given":{}}]', "an array", "Patient.name[0].given"),
        ('"name":[{"given":["a",["b"]]}]', "a string, a number or a boolean", "Patient.name[0].given[1]"),
        ('"name":[{"given":["a",{}],"_given":[]}]', "a string, a number or a boolean", "Patient.name[0].given[1]"),
        ('"name":[{"id":true}]', "a string", "Patient.name[0].id"),
        ('"_active":{"id":{}}', "a string", "Patient.active.id"),
        ('"extension":[{"url":[]}]', "a string", "Patient.extension[0].url"),
        ('"name":[{},1]', "an object", "Patient.name[1]"),
        ('"maritalStatus":[{}]', "an object", "Patient.maritalStatus"),
        ('"text":{"div":true}', "XHTML", "Patient.text.div"),
        ('"contained":[{"resourceType":"Basic"},{}]', "a resource", "Patient.contained[1]"),
        ('"contained":[{"resourceType":"basic"}]', "a resource", "Patient.contained[0]"),
        ('"contained":["x"]', "a resource", "Patient.contained[0]"),
        ('"contained":[{"resourceType":"Basic","x":1}]', "no such element", "Patient.contained[0].x"),
        ('"extension":[{"valueQuantity":{"x":1}}]', "no such element", "Patient.extension[0].value.x"),
    ],
)  # fmt: skip
def test_what_has_no_place_in_xml_is_refused_with_its_element(
    members: str, told: str, expression: str
) -> None:
    with pytest.raises(NotAcceptable) as raised:
        patient(members)
    assert told in str(raised.value)
    assert raised.value.issues[0].expression == expression


@pytest.mark.parametrize(
    "text", ["{}", '{"resourceType":"Patiens"}', '{"resourceType":["Patient"]}', '{"resourceType":1}']
)
def test_what_is_no_resource_is_refused(text: str) -> None:
    with pytest.raises(NotAcceptable) as raised:
        to_xml(text)
    assert raised.value.issues[0].expression == "Resource"


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a":1,"a":2}', '{"a":NaN}', '{"a":' * 70, '{"a":"\\ud800"}']
)
def test_what_is_no_strict_json_is_refused(text: str) -> None:
    with pytest.raises(MalformedBody):
        to_xml(text)


def test_what_stands_in_an_entry_is_named_as_such() -> None:
    with pytest.raises(NotAcceptable) as raised:
        to_xml('{"resourceType":"Bundle","entry":[{},{"resource":{"resourceType":"Patient","x":1}}]}')
    assert raised.value.issues[0].expression == "Bundle.entry[1].resource.x"


def test_no_refusal_repeats_a_value() -> None:
    members: list[Any] = ['"943 476 5919":1', '"active":["943 476 5919"]', '"name":"943 476 5919"']
    for member in members:
        with pytest.raises(NotAcceptable) as raised:
            patient(member)
        assert "943 476 5919" not in str(raised.value) + str(raised.value.issues)
