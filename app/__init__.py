"""Candour: a federated shared care record that people can check for themselves."""
