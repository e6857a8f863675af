"""HTTP: parse, call one use case, render. No decisions."""
