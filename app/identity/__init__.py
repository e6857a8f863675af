"""Which person a local Patient is."""
