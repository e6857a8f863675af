"""Where records are kept and asked for: the local store, other nodes, and all of them together."""
