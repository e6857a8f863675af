"""Register the clients that may ask, and remember used assertions."""

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    """Filled in by the change that owns these tables."""
