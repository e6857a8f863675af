"""What was disclosed, provably: entries, the tree over them, and their verification."""
