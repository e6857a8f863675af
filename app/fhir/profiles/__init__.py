"""Whether a resource is what a profile says: StructureDefinitions compiled once, run on parsed JSON (R4 profiling)."""
