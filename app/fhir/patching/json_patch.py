"""JSON Patch (RFC 6902) on a resource's text, its places named by JSON Pointers (RFC 6901)."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from app.errors import MalformedPatch
from app.fhir.patching.document import MOST_OPERATIONS, Array, Document, Object, RefusedError, Value
from app.fhir.text import parse_array

Pointer = tuple[str, ...]
"""The reference tokens, escapes resolved; empty for the whole document."""

_Change = Callable[[Document], object]


def apply_json_patch(text: str, patch: bytes | str) -> str:
    """``text`` after every operation of ``patch``, a JSON Patch document in UTF-8; or nothing of it.

    Every byte that no operation touches stays, and so does every byte of the values that the patch brings: ``1.50``
    stays ``1.50``. ``text`` is one that ``text.parse`` accepted, and so is the answer; whether that is valid R4 is for
    the caller to see. Raises MalformedBody or MalformedPatch for what is no JSON Patch, UnprocessablePatch when an
    operation cannot be applied or a ``test`` fails, BusinessRule for another type or id, TooCostly.
    """
    patch_text, operations = parse_array(patch)
    document = Document(text, patch_text)
    changes = list(_changes(operations, document.value(patch_text)))
    for number, (name, change) in enumerate(changes, 1):
        with document.operation(number, of=len(changes), name=name):
            change(document)
    return document.finished()


# Reading. All of it before anything is applied, so that what is malformed is called so.


class _MalformedError(Exception):
    """One operation is not of RFC 6902's form; the text says why."""


def _changes(operations: Sequence[Any], texts: Value) -> Iterator[tuple[str, _Change]]:
    """The name of each operation, and what it does."""
    if len(operations) > MOST_OPERATIONS or not isinstance(texts, Array):
        raise MalformedPatch(f"A patch may have {MOST_OPERATIONS} operations; this one has more.")
    for number, (operation, text) in enumerate(zip(operations, texts, strict=True), 1):
        try:
            if not isinstance(operation, dict) or not isinstance(text, Object):
                raise _MalformedError("it is not an object.")
            name = operation.get("op")
            if not isinstance(name, str) or name not in _READERS:
                raise _MalformedError(f"op has to be one of {', '.join(_READERS)}.")
            yield name, _READERS[name](operation, text)
        except _MalformedError as error:
            raise MalformedPatch(f"Operation {number} of {len(operations)} is malformed: {error}") from error


def _adding(operation: Mapping[str, Any], text: Object) -> _Change:
    path, value = _pointer(operation, "path"), _value(text)
    return lambda document: _add(document, path, value)


def _removing(operation: Mapping[str, Any], text: Object) -> _Change:
    path = _pointer(operation, "path")
    return lambda document: _remove(document, path)


def _replacing(operation: Mapping[str, Any], text: Object) -> _Change:
    path, value = _pointer(operation, "path"), _value(text)
    return lambda document: _replace(document, path, value)


def _moving(operation: Mapping[str, Any], text: Object) -> _Change:
    source, path = _pointer(operation, "from"), _pointer(operation, "path")
    if source == path[: len(source)] and source != path:
        raise _MalformedError("a value cannot be moved into itself.")
    return lambda document: _move(document, source, path)


def _copying(operation: Mapping[str, Any], text: Object) -> _Change:
    source, path = _pointer(operation, "from"), _pointer(operation, "path")
    return lambda document: _add(document, path, _at(document, source).copied())


def _testing(operation: Mapping[str, Any], text: Object) -> _Change:
    path, _ = _pointer(operation, "path"), _value(text)
    return lambda document: _test(document, path, operation["value"])


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any], Object], _Change]]] = {
    "add": _adding,
    "remove": _removing,
    "replace": _replacing,
    "move": _moving,
    "copy": _copying,
    "test": _testing,
}


def _value(text: Object) -> Value:
    """``null`` is a value, and something else than none."""
    value = text.get("value")
    if value is None:
        raise _MalformedError("it needs a value.")
    return value


_BAD_ESCAPE = re.compile("~(?![01])")


def _pointer(operation: Mapping[str, Any], member: str) -> Pointer:
    pointer = operation.get(member)
    if not isinstance(pointer, str):
        raise _MalformedError(f"it needs a {member}, a JSON Pointer as a string.")
    if pointer and not pointer.startswith("/"):
        raise _MalformedError(f"its {member} has to be empty or begin with /.")
    if _BAD_ESCAPE.search(pointer):
        raise _MalformedError(f"its {member} has a ~ that neither 0 nor 1 follows.")
    # ~1 first: ~01 is a tilde and a 1.
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:])


# Applying.


def _add(document: Document, path: Pointer, value: Value) -> None:
    if not path:
        document.root = value
        return
    match _at(document, path[:-1]):
        case Object() as holder:
            holder.put(path[-1], value)
        case Array() as holder:
            holder.insert(_index(path, most=len(holder), or_end=True), value)
        case _:
            raise RefusedError(f"what is at {_shown(path[:-1])} has neither members nor items.")


def _remove(document: Document, path: Pointer) -> Value:
    if not path:
        raise RefusedError("the whole resource cannot be removed.")
    match _at(document, path[:-1]):
        case Object() as holder if path[-1] in holder:
            return holder.remove(path[-1])
        case Array() as holder:
            return holder.remove(_index(path, most=len(holder) - 1))
        case _:
            raise _nothing_at(path)


def _replace(document: Document, path: Pointer, value: Value) -> None:
    _at(document, path)
    if not path:
        document.root = value
        return
    match _at(document, path[:-1]):
        case Object() as holder:
            holder.put(path[-1], value)
        case Array() as holder:
            holder.replace(_index(path, most=len(holder) - 1), value)


def _move(document: Document, source: Pointer, path: Pointer) -> None:
    if source == path:
        _at(document, path)
    else:
        _add(document, path, _remove(document, source))


def _test(document: Document, path: Pointer, wanted: Any) -> None:
    if not _at(document, path).equals(wanted):
        raise RefusedError(f"what is at {_shown(path)} is not equal to its value.")


def _at(document: Document, path: Pointer) -> Value:
    found = document.root
    for depth, token in enumerate(path, 1):
        within: Value | None = None
        if isinstance(found, Object):
            within = found.get(token)
        elif isinstance(found, Array):
            within = found[_index(path[:depth], most=len(found) - 1)]
        if within is None:
            raise _nothing_at(path[:depth])
        found = within
    return found


_INDEX = re.compile("0|[1-9][0-9]{0,8}")


def _index(path: Pointer, *, most: int, or_end: bool = False) -> int:
    """The last token as an index up to ``most``; ``-`` stands behind the last item (RFC 6901, 4)."""
    if path[-1] == "-" and or_end:
        return most
    if not _INDEX.fullmatch(path[-1]) or int(path[-1]) > most:
        raise RefusedError(f"{_shown(path)} is no place of the array there.")
    return int(path[-1])


def _nothing_at(path: Pointer) -> RefusedError:
    return RefusedError(f"nothing is at {_shown(path)}.")


_HARMLESS = re.compile("_?[A-Za-z]{1,64}|[0-9]{1,6}|-")
_MOST_SHOWN = 8


def _shown(path: Pointer) -> str:
    """A token may hold anything, a patient's identifier too; only names like FHIR's and short indices are shown."""
    tokens = [token if _HARMLESS.fullmatch(token) else "…" for token in path[:_MOST_SHOWN]]
    return "/".join(["", *tokens, *["…"][: len(path) - len(tokens)]]) or "the root"
