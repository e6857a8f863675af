"""Expressions select what FHIRPath says they select; what is not understood is refused when it is compiled."""

import json
import lzma
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fhirpathpy import compile as compile_as_oracle
from fhirpathpy.engine.nodes import ResourceNode
from fhirpathpy.models import models
from hypothesis import given
from hypothesis import strategies as st

from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.expressions import ExpressionError
from app.fhir.fhirpath import selectors, target_type
from app.fhir.parameters import parameters_of


def found(expression: str, resource: dict[str, Any]) -> list[tuple[str, Any]]:
    context = resource["resourceType"]
    return [(one.type, value) for one in selectors(expression, context) for value in one.select(resource)]


PERFORMERS = [
    {"reference": "Practitioner/2"},
    {"reference": "http://else/fhir/Patient/3"},
    {"identifier": {"value": "4"}, "type": "Patient"},
    {"reference": "#p", "type": "Patient"},
    {"reference": "urn:uuid:5"},
]
OBSERVATION = {
    "resourceType": "Observation",
    "id": "o1",
    "status": "final",
    "category": [{"coding": [{"code": "a"}, {"code": "b"}]}, {"text": "c"}],
    "subject": {"reference": "Patient/1"},
    "performer": PERFORMERS,
    "valueQuantity": {"value": Decimal("1.50")},
    "component": [{"valueString": "x"}, {"valueQuantity": {"value": 2}}, None],
}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("Observation.status", [("code", "final")]),
        ("Resource.id", [("id", "o1")]),
        ("DomainResource.id", [("id", "o1")]),
        ("status", [("code", "final")]),
        ("Patient.birthDate", []),
        ("Patient.birthDate | Observation.status", [("code", "final")]),
        ("Observation.category.coding.code", [("code", "a"), ("code", "b")]),
        ("Observation.category[1].text", [("string", "c")]),
        ("Observation.category[2]", []),
        ("Observation.value", [("Quantity", {"value": Decimal("1.50")})]),
        ("(Observation.value as Quantity).value", [("decimal", Decimal("1.50"))]),
        ("Observation.value.as(string)", []),
        ("Observation.value.as(DateTime)", []),
        ("Observation.component.value.as(string)", [("string", "x")]),
        ("Observation.subject.where(resolve() is Patient)", [("Reference", {"reference": "Patient/1"})]),
        ("Observation.subject.where(resolve() is Device)", []),
        ("Observation.component.where(value = 'x').value.as(string)", [("string", "x")]),
        ("%resource.status", [("code", "final")]),
        ("Observation.value.exists()", [("boolean", True)]),
        ("Observation.effective.exists()", [("boolean", False)]),
        ("Observation.status.exists() and Observation.status != 'final'", [("boolean", False)]),
        ("Observation.status.exists() and Observation.status = 'final'", [("boolean", True)]),
        ("Observation.value.exists() and Observation.issued != 'x'", []),
    ],
)
def test_an_expression_selects_values_with_their_types(
    expression: str, expected: list[tuple[str, Any]]
) -> None:
    assert found(expression, OBSERVATION) == expected


def test_resolve_asks_a_reference_itself_for_its_type() -> None:
    patients = found("Observation.performer.where(resolve() is Patient)", OBSERVATION)
    assert [value for _, value in patients] == PERFORMERS[1:3]


@pytest.mark.parametrize(
    ("resource", "deceased"),
    [
        ({}, False),
        ({"deceasedBoolean": False}, False),
        ({"deceasedBoolean": True}, True),
        ({"deceasedDateTime": "2020"}, True),
    ],
)
def test_a_patient_who_is_not_said_to_be_dead_is_not_deceased(
    resource: dict[str, Any], deceased: bool
) -> None:
    expression = parameters_of("Patient")["deceased"].expression
    assert found(expression, {"resourceType": "Patient", **resource}) == [("boolean", deceased)]


def test_a_selector_knows_what_it_needs_and_what_it_may_point_to() -> None:
    quantity, string = (
        next(one for one in selectors("Observation.value", "Observation") if one.type == kind)
        for kind in ("Quantity", "string")
    )
    assert (quantity.needs, string.needs) == ("valueQuantity", "valueString")
    [patient] = selectors("Observation.subject.where(resolve() is Patient)", "Observation")
    assert patient.targets == ("Patient",)
    assert patient.without_resolve().targets == ("Patient", "Group", "Device", "Location")
    [target] = selectors("Provenance.target", "Provenance")
    assert target.targets == ()


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "Observation.",
        "Observation.nothing",
        "Observation.status.first()",
        "Observation.status or Observation.status",
        "Observation.category.coding[0]",
        "Observation.where(status",
        "Observation.status = Observation.status",
        "Observation.value as Thing",
        "Nothing.status",
        "Observation.status & 'x'",
        "Observation.subject.resolve()",
        "Observation.subject is Reference",
        "'text'",
        "Observation.status)",
        "Observation.1",
    ],
)
def test_what_is_not_in_the_subset_is_refused_when_compiled(expression: str) -> None:
    with pytest.raises(ExpressionError):
        selectors(expression, "Observation")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["value", "coding", "code", "reference", "entry", "resource", "valueQuantity"]),
            inner,
        )
    ),
    max_leaves=20,
)


@given(st.sampled_from(["Observation", "Bundle", "Patient", "Consent"]), st.data())
def test_a_shape_that_is_not_r4s_selects_nothing_and_fails_nothing(
    resource_type: str, data: st.DataObject
) -> None:
    names = ["subject", "code", "component", "entry", "name", "meta", "deceasedBoolean", "valueQuantity"]
    resource = data.draw(st.dictionaries(st.sampled_from(names), json_values))
    for one in parameters_of(resource_type).values():
        if one.expression:
            for selector in selectors(one.expression, resource_type):
                assert isinstance(selector.select(resource), list)


# fhirpathpy as an oracle. It is asked a little otherwise than R4 writes, in three ways:
# ``as`` on a collection is an error to it, where R4's authors mean ``ofType``; ``Resource.id`` finds nothing, since it
# does not take an Observation for a Resource; and it does not resolve references, so it is given what tells a type.


def _asked(expression: str, resource_type: str) -> str:
    expression = re.sub(r"\bResource\.", f"{resource_type}.", expression)
    expression = re.sub(r"\(([\w.]+) as (\w+)\)", r"\1.ofType(\2)", expression)
    return expression.replace(".as(", ".ofType(")


def _resolve(nodes: list[Any]) -> list[Any]:
    references = [node.data if isinstance(node, ResourceNode) else node for node in nodes]
    node: Any = ResourceNode
    return [node({"resourceType": kind}, kind) for one in references if (kind := target_type(one))]


@cache
def _oracle(expression: str, resource_type: str) -> Callable[[Any], list[Any]]:
    functions = {"userInvocationTable": {"resolve": {"fn": _resolve, "arity": {0: []}}}}
    compiled = compile_as_oracle(_asked(expression, resource_type), models["r4"], functions)
    return lambda resource: list(compiled(resource, None))


def _differences(resource: dict[str, Any]) -> Iterator[tuple[str, set[str], set[str]]]:
    """(parameter, what only we find, what only the oracle finds); ``|`` removes duplicates there, so sets."""
    resource_type = resource["resourceType"]
    for one in parameters_of(resource_type).values():
        if one.expression:
            ours = {_text(value) for _, value in found(one.expression, resource)}
            theirs = {_text(value) for value in _oracle(one.expression, resource_type)(resource)}
            if ours != theirs:
                yield one.code, ours - theirs, theirs - ours


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def test_the_oracle_agrees_on_a_resource_with_every_kind_of_expression() -> None:
    for resource in (
        {**OBSERVATION, "valueQuantity": {"value": 1}, "component": [{"valueString": "x"}]},
        {"resourceType": "Patient", "id": "p", "deceasedBoolean": False, "telecom": [{"system": "email"}]},
        {
            "resourceType": "Bundle",
            "type": "document",
            "entry": [{"resource": {"resourceType": "Composition"}}],
        },
        {"resourceType": "Measure", "relatedArtifact": [{"type": "depends-on", "resource": "x"}]},
    ):
        assert list(_differences(resource)) == []


def test_the_oracle_agrees_on_every_example_of_hl7(shared_data: Path) -> None:
    compared = 0
    for path in sorted((shared_data / "hl7" / "examples").glob("*.ndjson.xz")):
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                # Decimals as text: both sides only pass them through.
                resource = json.loads(line, parse_float=str)
                assert list(_differences(resource)) == [], resource["id"]
                compared += 1
    assert compared == 584
    assert len(RESOURCE_TYPES) == 146
