"""transaction, batch and the conditional interactions: what is written by more than one address (R4 http, 3.1.0.11).

A transaction is one database transaction. The entries of a batch are requests of their own, carried out by ``api``.
"""

from app.exchange.steps import loadable_steps
from app.exchange.transaction import Exchange

__all__ = ["Exchange", "loadable_steps"]
