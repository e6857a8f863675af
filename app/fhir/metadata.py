"""``$meta``, ``$meta-add``, ``$meta-delete``: a resource's profiles, tags and security labels (R4 resource-operations).

A change is told as a JSON Patch, so that every other byte of the resource stays, and every byte of what is added.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from app.errors import InvalidInput
from app.fhir.text import Parsed, array_item_spans, member_spans, read_value

_LISTS: Final = ("profile", "security", "tag")

Labels = Mapping[str, Sequence[str]]
"""The texts of profiles, security labels and tags."""


def meta_of(text: str) -> str:
    """Parameters with the resource's ``meta`` as ``return``, as it is written."""
    begin, end = member_spans(text)["meta"]
    return f'{{"resourceType":"Parameters","parameter":[{{"name":"return","valueMeta":{text[begin:end]}}}]}}'


def sent_labels(parameters: Parsed) -> Labels:
    """What ``meta`` of a Parameters resource holds. Raises InvalidInput."""
    match parameters.value:
        case {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": dict()}]}:
            pass
        case _:
            raise InvalidInput("meta", "a Parameters resource with one Meta is needed, and nothing else.")
    [(part, _)] = array_item_spans(parameters.text, member_spans(parameters.text)["parameter"][0])
    found = _labels(parameters.text, member_spans(parameters.text, part)["valueMeta"][0])
    if not any(found.values()):
        raise InvalidInput("meta", "a profile, a security label or a tag is needed.")
    return found


def adding(text: str, labels: Labels) -> str:
    """A JSON Patch that adds what is not there yet."""
    changes = []
    for name, present in _present(text).items():
        known = set(map(_key, present))
        new = {key: one for one in labels[name] if (key := _key(one)) not in known}
        if new and present:
            changes += [f'{{"op":"add","path":"/meta/{name}/-","value":{one}}}' for one in new.values()]
        elif new:
            changes.append(f'{{"op":"add","path":"/meta/{name}","value":[{",".join(new.values())}]}}')
    return f"[{','.join(changes)}]"


def removing(text: str, labels: Labels) -> str:
    """A JSON Patch that removes what is there, a label or tag by its system and code."""
    changes = []
    for name, present in _present(text).items():
        unwanted = set(map(_key, labels[name]))
        places = [place for place, one in enumerate(present) if _key(one) in unwanted]
        if places and len(places) == len(present):
            changes.append({"op": "remove", "path": f"/meta/{name}"})
        else:
            changes += [{"op": "remove", "path": f"/meta/{name}/{place}"} for place in reversed(places)]
    return json.dumps(changes)


def _present(text: str) -> Labels:
    """Of a resource that is kept, which always has a ``meta``."""
    return _labels(text, member_spans(text)["meta"][0])


def _labels(text: str, start: int) -> Labels:
    """Of the Meta that begins at ``start``. Raises InvalidInput where one of the three is no array."""
    spans = member_spans(text, start)
    found: dict[str, list[str]] = {}
    for name in _LISTS:
        begin = spans.get(name, (None,))[0]
        if begin is not None and text[begin] != "[":
            raise InvalidInput("meta", f"{name} is an array.")
        items = [] if begin is None else array_item_spans(text, begin)
        found[name] = [text[one:end] for one, end in items]
    return found


def _key(text: str) -> tuple[str, str]:
    """By what two of them are the same."""
    value = read_value(text)
    if isinstance(value, dict):
        return str(value.get("system", "")), str(value.get("code", ""))
    return "", str(value)
