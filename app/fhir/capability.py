"""The CapabilityStatement, generated from the tables that the service works by (R4 capabilitystatement)."""

import json
from typing import Any

from app.fhir.bundled import MOST_ENTRIES
from app.fhir.compartments import COMPARTMENTS
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.includes import reference_codes, referring
from app.fhir.parameters import SearchParameter, parameters_of
from app.fhir.query import KEPT_APART, is_supported

_BULK_DATA = "http://hl7.org/fhir/uv/bulkdata"
_EVERY_TYPE = ("_id", "_lastUpdated", "_tag", "_profile", "_security", "_source", "_list", "_filter")
_OF_MOST_TYPES = ("_text", "_content")


def capability_statement(
    base_url: str, token_url: str, *, date: str, version: str, cors: bool = False
) -> str:
    """The statement's text. ``date`` is the instant of publication, ``version`` the software's.

    ``cors``: whether browser apps of other origins may call.
    """
    return json.dumps(
        {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": date,
            "kind": "instance",
            "instantiates": [f"{_BULK_DATA}/CapabilityStatement/bulk-data"],
            "software": {"name": "Candour", "version": version},
            "implementation": {
                "description": "A federated shared care record: consent decides, every access is recorded.",
                "url": base_url,
            },
            "fhirVersion": "4.0.1",
            "format": ["application/fhir+json", "application/fhir+xml", "json", "xml"],
            "patchFormat": ["application/json-patch+json", "application/fhir+json", "application/fhir+xml"],
            "rest": [_rest(token_url, cors)],
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def _rest(token_url: str, cors: bool) -> dict[str, Any]:
    return {
        "mode": "server",
        "documentation": (
            "Dates are compared as R4 says: eq is containment, ap is overlap. A patient-scoped search goes to every "
            "source that may hold something; its outcome entry has one line for each. Reference parameters can be "
            "chained, and _has reverses a chain, over at most five references; _include and _revinclude take "
            ":iterate. _filter takes R4's whole grammar; _text and _content ask for words. _sort takes any parameter "
            "with an order, and several. Pages are one snapshot for an hour."
        ),
        "security": _security(token_url, cors),
        "resource": [_resource(resource_type) for resource_type in sorted(RESOURCE_TYPES)],
        "interaction": [
            {"code": "transaction", "documentation": _TRANSACTION},
            {"code": "batch", "documentation": _BATCH},
            {"code": "search-system"},
            {"code": "history-system"},
        ],
        "operation": [{"name": "export", "definition": f"{_BULK_DATA}/OperationDefinition/export"}],
        "compartment": [
            f"http://hl7.org/fhir/CompartmentDefinition/{kind[0].lower() + kind[1:]}"
            for kind in sorted(COMPARTMENTS)
        ],
    }


def _security(token_url: str, cors: bool) -> dict[str, Any]:
    return {
        "cors": cors,
        "service": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
                        "code": "SMART-on-FHIR",
                    }
                ]
            }
        ],
        "extension": [
            {
                "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
                "extension": [{"url": "token", "valueUri": token_url}],
            }
        ],
    }


def _resource(resource_type: str) -> dict[str, Any]:
    if resource_type in KEPT_APART:
        patient = {"name": "patient", "type": "reference", "documentation": "Whose record; needed."}
        return {
            "type": resource_type,
            "interaction": [{"code": "search-type"}],
            "searchParam": [patient],
            "operation": _operations(resource_type),
        }
    found: dict[str, Any] = {
        "type": resource_type,
        "interaction": [{"code": code} for code in _INTERACTIONS],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalUpdate": True,
        "conditionalDelete": "single",
        "searchInclude": ["*", *(f"{resource_type}:{code}" for code in reference_codes(resource_type))],
        "searchRevInclude": ["*", *_referring(resource_type)],
        "searchParam": [*map(_common, _every(resource_type)), *_own(resource_type)],
    }
    if resource_type in _DOCUMENTED:
        found["documentation"] = _DOCUMENTED[resource_type]
    found["operation"] = _operations(resource_type)
    return found


def _operations(resource_type: str) -> list[dict[str, str]]:
    base = "http://hl7.org/fhir/OperationDefinition"
    own = [(name, f"{base}/{resource_type}-{name}") for name in _OPERATIONS.get(resource_type, ())]
    every = ("validate",) if resource_type in KEPT_APART else ("validate", "meta", "meta-add", "meta-delete")
    operations = [*((name, f"{base}/Resource-{name}") for name in every), *own]
    if resource_type in ("Patient", "Group"):
        operations.append(("export", f"{_BULK_DATA}/OperationDefinition/{resource_type.lower()}-export"))
    return [{"name": name, "definition": definition} for name, definition in operations]


def _referring(resource_type: str) -> list[str]:
    return [one for one in referring(resource_type) if one.partition(":")[0] not in KEPT_APART]


_TRANSACTION = (
    f"At most {MOST_ENTRIES:,} entries, of every verb. A reading sees what the transaction wrote. Conditional "
    "references are resolved. Operations and searches by POST are not carried out in a transaction."
)
_BATCH = f"At most {MOST_ENTRIES:,} entries, of whatever has an address by itself."

_OPERATIONS = {
    "Composition": ("document",),
    "Encounter": ("everything",),
    "Observation": ("lastn",),
    "Patient": ("everything",),
    "ValueSet": ("expand", "validate-code"),
    "CodeSystem": ("lookup", "validate-code", "subsumes"),
}


_DOCUMENTED = {
    "Binary": (
        "As bytes or as the resource, by Accept and Content-Type; X-Security-Context is securityContext. Withheld "
        "whenever the resource that securityContext names is; without one, read by its custodian alone."
    ),
}

_INTERACTIONS = (
    "read",
    "vread",
    "update",
    "patch",
    "delete",
    "history-instance",
    "history-type",
    "create",
    "search-type",
)


def _every(resource_type: str) -> list[str]:
    return [*_EVERY_TYPE, *(code for code in _OF_MOST_TYPES if code in parameters_of(resource_type))]


def _common(code: str) -> dict[str, str]:
    kind = {
        "_lastUpdated": "date",
        "_profile": "uri",
        "_source": "uri",
        "_list": "special",
        "_filter": "special",
        "_text": "string",
        "_content": "string",
    }.get(code, "token")
    return {"name": code, "type": kind}


def _own(resource_type: str) -> list[dict[str, str]]:
    found = parameters_of(resource_type).values()
    own = [one for one in found if not one.code.startswith("_") and is_supported(one)]
    return [_param(one) for one in sorted(own, key=lambda one: one.code)]


def _param(one: SearchParameter) -> dict[str, str]:
    shown = {"name": one.code, "type": one.type}
    return shown | ({"documentation": one.documentation} if one.documentation else {})
