"""What an answer is made of: resources that may be released, each with whose it is and what released it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.audit.entry import Disclosed
from app.consent.decision import Decision
from app.fhir import bundle
from app.fhir.subset import Subset
from app.records.reading import Whose
from app.vocabulary import PatientIdentity


@dataclass(frozen=True, slots=True)
class Match:
    """One resource of this node or of a source, decided and ready to leave."""

    resource_type: str
    id: str
    full_url: str
    content: str
    disclosed: Disclosed
    owner: Whose | PatientIdentity | None
    """The person whose record it is; None: nobody's."""
    decision: Decision | None
    patients: Sequence[int] = ()
    """Keys of the local Patients it is about, where they are several."""
    mode: str = "match"

    @property
    def reference(self) -> str:
        return f"{self.resource_type}/{self.id}"

    def is_at(self, base_url: str) -> bool:
        """Whether it is one of the records under this base, so that its references are to others of them."""
        return self.full_url == f"{base_url}/{self.reference}"

    def entry(self, subset: Subset | None) -> bundle.Entry:
        """Its entry of a searchset. ``subset``: the part of it that was asked for."""
        content = self.content if subset is None else subset.of(self.content)
        return bundle.Entry(self.full_url, content, self.mode)
