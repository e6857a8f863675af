"""Code systems by one name each, so that two spellings of one system are never told apart unnoticed.

The record keeps what its custodian wrote; only keys are made from the canonical name.
"""

from functools import lru_cache
from typing import Final

CONFIDENTIALITY: Final = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ACT_CODE: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
ACT_REASON: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
RESOURCE_TYPES: Final = "http://hl7.org/fhir/resource-types"
MIME_TYPES: Final = "urn:ietf:bcp:13"
URIS: Final = "urn:ietf:rfc:3986"

_BY_OID: Final = {
    "2.16.840.1.113883.6.1": "http://loinc.org",
    "2.16.840.1.113883.6.96": "http://snomed.info/sct",
    "2.16.840.1.113883.6.3": "http://hl7.org/fhir/sid/icd-10",
    "2.16.840.1.113883.6.90": "http://hl7.org/fhir/sid/icd-10-cm",
    "2.16.840.1.113883.6.88": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "2.16.840.1.113883.6.8": "http://unitsofmeasure.org",
    "2.16.840.1.113883.5.4": ACT_CODE,
    "2.16.840.1.113883.5.8": ACT_REASON,
    "2.16.840.1.113883.5.25": CONFIDENTIALITY,
    "2.16.840.1.113883.2.1.4.1": "https://fhir.nhs.uk/Id/nhs-number",
}
_OTHER_NAMES: Final = {
    "http://hl7.org/fhir/ValueSet/resource-types": RESOURCE_TYPES,
    "http://hl7.org/fhir/fhir-types": RESOURCE_TYPES,
    "http://hl7.org/fhir/types": RESOURCE_TYPES,
    "http://hl7.org/fhir/contenttypes": MIME_TYPES,
    "urn:ietf:bcp13": MIME_TYPES,
    "http://snomed.info": "http://snomed.info/sct",
}
_V3_BEFORE_R4: Final = "http://hl7.org/fhir/v3/"
_V3: Final = "http://terminology.hl7.org/CodeSystem/v3-"

# Of the others, whoever names codes by http today says so: HL7, LOINC, SNOMED. The NHS says https.
_NAMED_BY_HTTPS: Final = ("fhir.nhs.uk", "fhir.hl7.org.uk", "fhir.gov.uk")

_KNOWN: Final = frozenset(
    {
        "http://loinc.org",
        "http://snomed.info/sct",
        "https://dmd.nhs.uk",
        "http://read.info/readv2",
        "http://read.info/ctv3",
        "http://www.nlm.nih.gov/research/umls/rxnorm",
        "http://hl7.org/fhir/ndfrt",
        "http://fdasis.nlm.nih.gov",
        "http://www.whocc.no/atc",
        "http://unitsofmeasure.org",
        "http://dicom.nema.org/resources/ontology/DCM",
        "http://www.ama-assn.org/go/cpt",
        "http://ihe.net/xds/connectathon/classCodes",
    }
)
_KNOWN_BEGINNINGS: Final = (
    "http://terminology.hl7.org/CodeSystem/",
    "http://hl7.org/fhir/",
    "https://fhir.nhs.uk/",
    "https://fhir.hl7.org.uk/",
)


@lru_cache(maxsize=4_096)
def canonical_system(system: str) -> str:
    """The one name of a system written with another scheme, a trailing slash, an OID or a former URL."""
    name = system.strip().rstrip("/")
    if name.lower().startswith("urn:oid:"):
        return _BY_OID.get(name[8:], "urn:oid:" + name[8:])
    scheme, separator, rest = name.partition("://")
    if separator and scheme.lower() in ("http", "https"):
        host = rest.partition("/")[0].lower()
        name = ("https://" if host in _NAMED_BY_HTTPS else "http://") + host + rest[len(host) :]
        name = "https://dmd.nhs.uk" if host == "dmd.nhs.uk" else name
    if name.startswith(_V3_BEFORE_R4):
        name = _V3 + name[len(_V3_BEFORE_R4) :]
    return _OTHER_NAMES.get(name, name)


def is_known_system(canonical: str) -> bool:
    """Whether codes of this system can be expected in a record; '' (any system) can.

    A choice about codes of a system that nobody here has heard of would match nothing, silently: a typing error
    in its URL must not open what the patient meant to close.
    """
    return not canonical or canonical in _KNOWN or canonical.startswith(_KNOWN_BEGINNINGS)
