"""Patient.link to the person's other local Patients, added to a Patient's text as it is released."""

from collections.abc import Sequence

from app.fhir.text import member_spans


def with_links(content: str, patient_ids: Sequence[str]) -> str:
    """``content`` with one ``seealso`` link for each id; every other byte stays as the custodian wrote it."""
    missing = [id for id in patient_ids if f'"Patient/{id}"' not in content]
    if not missing:
        return content
    links = ",".join(f'{{"other":{{"reference":"Patient/{id}"}},"type":"seealso"}}' for id in missing)
    spans = member_spans(content)
    if "link" in spans:
        end = spans["link"][1]
        return f"{content[: end - 1]},{links}]{content[end:]}"
    end = content.rstrip().rindex("}")
    return f'{content[:end].rstrip()},"link":[{links}]{content[end:]}'
