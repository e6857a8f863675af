"""R4's terminology operations, from what was sent to the text of the answer.

$expand and $validate-code of ValueSet, $lookup, $validate-code and $subsumes of CodeSystem. ``given`` is either the
decoded names and values of an address or a Parameters resource as parsed JSON. ``value_set`` and ``code_system`` are
the resource that an operation was invoked on, ``/ValueSet/[id]/$expand``, as parsed JSON; None at the type.

All raise InvalidInput and UnsupportedInput (400, the parameter named), UnknownCodes (404), and NotEnumerable, TooCostly
and InvalidDefinition (422).
"""

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from app.errors import InvalidInput, TooCostly, UnknownCodes
from app.fhir.concepts import CodeSystem, Designation, Property, read_code_system
from app.fhir.membership import Contained
from app.fhir.nodes import shown
from app.fhir.terminology import Coding, Expansion, Lookup, Terminology, Validation, said_in
from app.fhir.terminology_inputs import Inputs, Kind, from_pairs, from_parameters
from app.fhir.valuesets import Part, ValueSet, read_value_set

Given = Sequence[tuple[str, str]] | Mapping[str, object]

MOST_CODES = 10_000
"""In one page. R4's largest value set has 6,401."""

EXPAND: Final[Mapping[str, Kind]] = {
    "url": "text",
    "valueSet": "ValueSet",
    "valueSetVersion": "text",
    "filter": "text",
    "offset": "whole",
    "count": "whole",
    "includeDesignations": "boolean",
    "includeDefinition": "boolean",
    "activeOnly": "boolean",
    "excludeNested": "boolean",
    "excludeNotForUI": "boolean",
    "excludePostCoordinated": "boolean",
    "displayLanguage": "text",
    "exclude-system": "text",
    "context": "unsupported",
    "contextDirection": "unsupported",
    "date": "unsupported",
    "designation": "unsupported",
    "system-version": "unsupported",
    "check-system-version": "unsupported",
    "force-system-version": "unsupported",
}
"""Parameters of $expand. Expansions are flat and hold no post-coordinated code whatever is asked."""

VALIDATE_CODE: Final[Mapping[str, Kind]] = {
    "url": "text",
    "valueSet": "ValueSet",
    "valueSetVersion": "text",
    "code": "text",
    "system": "text",
    "systemVersion": "text",
    "display": "text",
    "coding": "Coding",
    "codeableConcept": "CodeableConcept",
    "abstract": "boolean",
    "displayLanguage": "text",
    "context": "unsupported",
    "date": "unsupported",
}

VALIDATE_IN_SYSTEM: Final[Mapping[str, Kind]] = {
    "url": "text",
    "codeSystem": "CodeSystem",
    "code": "text",
    "version": "text",
    "display": "text",
    "coding": "Coding",
    "codeableConcept": "CodeableConcept",
    "abstract": "boolean",
    "displayLanguage": "text",
    "date": "unsupported",
}

LOOKUP: Final[Mapping[str, Kind]] = {
    "code": "text",
    "system": "text",
    "version": "text",
    "coding": "Coding",
    "displayLanguage": "text",
    "property": "text",
    "date": "unsupported",
}

SUBSUMES: Final[Mapping[str, Kind]] = {
    "codeA": "text",
    "codeB": "text",
    "system": "text",
    "version": "text",
    "codingA": "Coding",
    "codingB": "Coding",
}

_LONGEST_FILTER: Final = 200
_NOT_ECHOED: Final = ("url", "valueSet", "valueSetVersion", "offset", "count")


# ValueSet/$expand


def expand(
    terminology: Terminology,
    given: Given,
    *,
    timestamp: str,
    value_set: Mapping[str, object] | None = None,
) -> str:
    """A ValueSet with an expansion (valueset-operation-expand). ``timestamp`` is a dateTime: when it is made.

    The same content under the same parameters has the same ``expansion.identifier``, whichever page is asked for.
    """
    inputs = _inputs(given, EXPAND, ("exclude-system",))
    found = _value_set(terminology, inputs, value_set)
    words = inputs.text("filter") or ""
    if len(words) > _LONGEST_FILTER:
        raise InvalidInput("filter", f"at most {_LONGEST_FILTER} characters are looked for.")
    expansion = terminology.expand(
        found,
        filter=words,
        offset=inputs.number("offset") or 0,
        count=inputs.number("count"),
        active_only=inputs.flag("activeOnly"),
        selectable_only=inputs.flag("excludeNotForUI"),
        without_systems=[_system_alone(canonical) for canonical in inputs.texts("exclude-system")],
        language=inputs.text("displayLanguage"),
    )
    if len(expansion.contains) > MOST_CODES:
        raise TooCostly(
            f"The expansion has {expansion.total} codes. Ask for pages of at most {MOST_CODES} with count."
        )
    answer = _expanded(found, expansion, inputs, timestamp)
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":"))


def _system_alone(canonical: str) -> str:
    system, bar, _ = canonical.partition("|")
    if bar:
        raise InvalidInput("exclude-system", "a single version of a system cannot be left out.")
    return system


def _value_set(terminology: Terminology, inputs: Inputs, invoked_on: Mapping[str, object] | None) -> ValueSet:
    """The one that the operation is about: invoked on, sent, or named; exactly one of them."""
    sent, url = inputs.resource("valueSet"), inputs.text("url")
    if sum(one is not None for one in (invoked_on, sent, url)) != 1:
        raise InvalidInput(
            "url", "exactly one value set has to be named: by url, as valueSet, or by its address."
        )
    if url is None:
        return read_value_set(sent or invoked_on or {})
    version = inputs.text("valueSetVersion")
    found = terminology.value_set(f"{url}|{version}" if version else url)
    if found is None:
        raise UnknownCodes(f"The value set {shown(url)}{_in_version(version)} is not known here.")
    return found


def _in_version(version: str | None) -> str:
    return f", version {shown(version)}," if version else ""


def _expanded(found: ValueSet, expansion: Expansion, inputs: Inputs, timestamp: str) -> dict[str, Any]:
    contains = [_contains(one, inputs.flag("includeDesignations")) for one in expansion.contains]
    parameters = [*_echoed(inputs), *_versions(expansion)]
    unclosed = {"url": "http://hl7.org/fhir/StructureDefinition/valueset-unclosed", "valueBoolean": True}
    body = {
        "extension": [] if expansion.is_closed else [unclosed],
        "identifier": _identifier(found, expansion, parameters),
        "timestamp": timestamp,
        "total": expansion.total,
        "offset": expansion.offset,
        "parameter": parameters,
        "contains": contains,
    }
    return {
        **_head(found),
        **(_compose(found) if inputs.flag("includeDefinition") else {}),
        "expansion": _filled(body),
    }


def _head(found: ValueSet) -> dict[str, Any]:
    return _filled(
        {
            "resourceType": "ValueSet",
            "url": found.url,
            "version": found.version,
            "name": found.name,
            "title": found.title,
            "status": found.status or "unknown",
            "experimental": found.experimental,
            "copyright": found.copyright,
        }
    )


def _contains(one: Contained, with_designations: bool) -> dict[str, Any]:
    return _filled(
        {
            "system": one.system,
            "abstract": one.is_abstract or None,
            "inactive": one.is_inactive or None,
            "code": one.code,
            "display": one.display,
            "designation": [_designation(said) for said in one.designations] if with_designations else None,
        }
    )


def _designation(said: Designation) -> dict[str, Any]:
    return _filled({"language": said.language, "use": _use(said), "value": said.value})


def _use(said: Designation) -> dict[str, Any] | None:
    return _filled(dict(zip(("system", "code", "display"), said.use, strict=True))) if said.use else None


def _echoed(inputs: Inputs) -> Iterator[dict[str, Any]]:
    for name, values in inputs.values.items():
        for value in () if name in _NOT_ECHOED else values:
            kind = "valueBoolean" if isinstance(value, bool) else "valueString"
            yield {"name": name, kind: value}


def _versions(expansion: Expansion) -> Iterator[dict[str, Any]]:
    for system in expansion.systems:
        if system.version:
            yield {"name": "version", "valueUri": f"{system.url}|{system.version}"}


def _identifier(found: ValueSet, expansion: Expansion, parameters: Sequence[Mapping[str, Any]]) -> str:
    codes = [(one.system, one.code, one.display) for one in expansion.codes]
    told = json.dumps([found.url, found.version, codes, parameters])
    return uuid.UUID(bytes=hashlib.sha256(told.encode()).digest()[:16], version=5).urn


def _compose(found: ValueSet) -> dict[str, Any]:
    compose = {
        "lockedDate": found.locked,
        "inactive": found.inactive,
        "include": [_part(part) for part in found.includes],
        "exclude": [_part(part) for part in found.excludes],
    }
    return {"compose": _filled(compose)} if found.includes else {}


def _part(part: Part) -> dict[str, Any]:
    concepts = [
        _filled(
            {
                "code": one.code,
                "display": one.display,
                "designation": [_designation(d) for d in one.designations],
            }
        )
        for one in part.listed
    ]
    filters = [{"property": one.property, "op": one.op, "value": one.value} for one in part.filters]
    return _filled(
        {
            "system": part.system,
            "version": part.version,
            "concept": concepts,
            "filter": filters,
            "valueSet": list(part.value_sets),
        }
    )


# $validate-code


def validate_code(
    terminology: Terminology, given: Given, *, value_set: Mapping[str, object] | None = None
) -> str:
    """Parameters with result, message and display (valueset-operation-validate-code)."""
    inputs = _inputs(given, VALIDATE_CODE)
    found = _value_set(terminology, inputs, value_set)
    codings = _codings(inputs, system=inputs.text("system"), version=inputs.text("systemVersion"))
    if inputs.text("code") and not inputs.text("system"):
        raise InvalidInput("system", "a code needs its system.")
    abstract, language = inputs.flag("abstract"), inputs.text("displayLanguage")
    return _validation(terminology.validate_code(found, codings, allow_abstract=abstract, language=language))


def validate_in_system(
    terminology: Terminology, given: Given, *, code_system: Mapping[str, object] | None = None
) -> str:
    """Parameters with result, message and display (codesystem-operation-validate-code)."""
    inputs = _inputs(given, VALIDATE_IN_SYSTEM)
    sent, url = inputs.resource("codeSystem"), inputs.text("url")
    if sum(one is not None for one in (code_system, sent, url)) != 1:
        raise InvalidInput(
            "url", "exactly one code system has to be named: by url, as codeSystem, or by its address."
        )
    found = (
        _code_system(terminology, url, inputs.text("version"), "url")
        if url is not None
        else read_code_system(sent or code_system or {})
    )
    codings = _codings(inputs, system=found.url, version=inputs.text("version"))
    abstract, language = inputs.flag("abstract"), inputs.text("displayLanguage")
    return _validation(
        terminology.validate_in_system(found, codings, allow_abstract=abstract, language=language)
    )


def _codings(inputs: Inputs, *, system: str | None, version: str | None) -> tuple[Coding, ...]:
    """What is to be checked: a code, a coding or a codeableConcept; exactly one of them."""
    code, coding, concept = inputs.text("code"), inputs.coding("coding"), inputs.codings("codeableConcept")
    if sum(one is not None for one in (code, coding, concept)) != 1:
        raise InvalidInput("code", "exactly one of code, coding and codeableConcept is needed.")
    if inputs.text("display") and code is None:
        raise InvalidInput("display", "this goes with code; a coding has its own.")
    if code is not None:
        return (Coding(system, code, version, inputs.text("display")),)
    return (coding,) if coding else concept or ()


def _validation(found: Validation) -> str:
    return _parameters(
        ("result", "boolean", found.result),
        ("message", "string", found.message),
        ("display", "string", found.display),
    )


# CodeSystem/$lookup


def lookup(terminology: Terminology, given: Given) -> str:
    """Parameters with name, version, display, designation and property (codesystem-operation-lookup).

    Without ``property`` all that is known is answered.
    """
    inputs = _inputs(given, LOOKUP, ("property",))
    coding = _one_coding(inputs, "code", "coding", inputs.text("system"), inputs.text("version"))
    system = _code_system(terminology, coding.system, coding.version, "system")
    found = terminology.lookup(
        f"{system.url}|{system.version}" if coding.version else system.url, coding.code
    )
    if found is None:
        known = "There is no such code in" if system.is_complete else "Not all codes are known here of"
        raise UnknownCodes(f"{known} {shown(system.url)}.")
    return _looked_up(found, frozenset(inputs.texts("property")), inputs.text("displayLanguage"))


def _looked_up(found: Lookup, wanted: frozenset[str], language: str | None) -> str:
    def asked(*names: str) -> bool:
        return not wanted or not wanted.isdisjoint(names)

    concept = found.concept
    designations = [said for said in concept.designations if asked("designation", f"lang.{said.language}")]
    display = said_in(language, concept.designations) if language else None
    return _parameters(
        ("name", "string", found.system.name or found.system.title or found.system.url),
        ("version", "string", found.system.version),
        ("display", "string", display or concept.display or concept.code),
        *(("designation", "part", list(_said(said))) for said in designations),
        *(("property", "part", _property(one)) for one in _properties(found) if asked(one.code)),
    )


def _said(said: Designation) -> Iterator[dict[str, Any]]:
    if said.language:
        yield {"name": "language", "valueCode": said.language}
    if use := _use(said):
        yield {"name": "use", "valueCoding": use}
    yield {"name": "value", "valueString": said.value}


def _properties(found: Lookup) -> Iterator[Property]:
    """What R4 defines for all code systems, then the code system's own."""
    concept = found.concept
    if concept.definition:
        yield Property("definition", "string", concept.definition)
    yield Property("inactive", "boolean", concept.is_inactive)
    yield Property("notSelectable", "boolean", concept.is_abstract)
    yield from (Property("parent", "code", code) for code in concept.parents)
    yield from (Property("child", "code", code) for code in found.children)
    yield from (
        one for one in concept.properties if one.code not in ("inactive", "notSelectable", "parent", "child")
    )


def _property(one: Property) -> list[dict[str, Any]]:
    kind = "value" + one.type[0].upper() + one.type[1:]
    return [{"name": "code", "valueCode": one.code}, {"name": "value", kind: one.value}]


def _code_system(terminology: Terminology, url: str | None, version: str | None, name: str) -> CodeSystem:
    if url is None:
        raise InvalidInput(name, "this parameter is needed.")
    found = terminology.code_system(f"{url}|{version}" if version else url)
    if found is None or not found.is_present:
        raise UnknownCodes(f"The code system {shown(url)}{_in_version(version)} is not known here.")
    return found


def _one_coding(
    inputs: Inputs, code_name: str, coding_name: str, system: str | None, version: str | None
) -> Coding:
    """A code with its system, or a coding; exactly one of them."""
    code, coding = inputs.text(code_name), inputs.coding(coding_name)
    if (code is None) == (coding is None):
        raise InvalidInput(code_name, f"exactly one of {code_name} and {coding_name} is needed.")
    return coding or Coding(system, code or "", version)


# CodeSystem/$subsumes


def subsumes(
    terminology: Terminology, given: Given, *, code_system: Mapping[str, object] | None = None
) -> str:
    """Parameters with an outcome (codesystem-operation-subsumes). Codes of two systems are not compared."""
    inputs = _inputs(given, SUBSUMES)
    invoked_on = read_code_system(code_system) if code_system is not None else None
    system, version = (
        inputs.text("system") or (invoked_on.url if invoked_on else None),
        inputs.text("version"),
    )
    a = _one_coding(inputs, "codeA", "codingA", system, version)
    b = _one_coding(inputs, "codeB", "codingB", system, version)
    if a.system != b.system or a.version != b.version:
        raise InvalidInput("codingB", "codes of two code systems, or of two versions, are not compared here.")
    if system is not None and a.system != system:
        raise InvalidInput("system", "this is not the system of the codes.")
    found = invoked_on or _code_system(terminology, a.system, a.version, "system")
    outcome = terminology.subsumption(found, a.code, b.code)
    if outcome is None:
        raise UnknownCodes(f"One of the codes is not known here in {shown(found.url)}.")
    return _parameters(("outcome", "code", outcome))


# Writing


def _inputs(given: Given, kinds: Mapping[str, Kind], repeating: Iterable[str] = ()) -> Inputs:
    if isinstance(given, Mapping):
        return from_parameters(given, kinds, repeating)
    return from_pairs(given, kinds, repeating)


def _parameters(*parts: tuple[str, str, Any]) -> str:
    """(name, type, value), without those that have no value; the type ``part`` has a list of parameters."""
    listed = [
        {"name": name, kind if kind == "part" else "value" + kind[0].upper() + kind[1:]: value}
        for name, kind, value in parts
        if value is not None
    ]
    return _text({"resourceType": "Parameters", "parameter": listed})


def _filled(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is empty: FHIR has no empty values."""
    return {name: value for name, value in fields.items() if value is not None and value not in ("", [], {})}


def _text(value: Any) -> str:
    """JSON with a decimal's digits as they were read."""
    match value:
        case dict():
            return "{" + ",".join(f"{_text(name)}:{_text(one)}" for name, one in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_text, value)) + "]"
        case Decimal():
            return str(value)
    return json.dumps(value, ensure_ascii=False)
