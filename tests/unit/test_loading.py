"""Files in the order in which they can be loaded: what others refer to first, bytes last."""

from pathlib import Path

from app.loading import ordered


def test_bytes_are_loaded_when_what_they_belong_to_is_there() -> None:
    names = [
        "Binary.ndjson",
        "DocumentReference.ndjson",
        "Patient.ndjson",
        "Organization.000.ndjson",
        "binary.json.gz",
    ]
    groups = ordered(Path(name) for name in names)
    assert [sorted(one.name for one in group) for group in groups] == [
        ["Organization.000.ndjson"],
        ["Patient.ndjson"],
        ["DocumentReference.ndjson"],
        ["Binary.ndjson", "binary.json.gz"],
    ]
