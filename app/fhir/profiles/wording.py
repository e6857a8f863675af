"""Sentences that several checks share. They name the profile and its element, and no value of the resource."""


def too_few(label: str, id: str, least: int, count: int) -> str:
    return f"{label} requires at least {least} of {id}; there {_are(count)}."


def too_many(label: str, id: str, most: int, count: int) -> str:
    if most == 0:
        return f"{label} does not allow {id}."
    return f"{label} allows at most {most} of {id}; there {_are(count)}."


def _are(count: int) -> str:
    return {0: "is none", 1: "is 1"}.get(count, f"are {count}")
