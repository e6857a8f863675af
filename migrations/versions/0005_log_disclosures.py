"""Log disclosures: entries, the tree over them, and who may touch either."""

revision, down_revision = "0005", "0004"


def upgrade() -> None:
    """Filled in by the change that owns these tables."""
