"""What FHIR R4 (4.0.1) means: definitions, text, validation, search values, bundles. No I/O, no framework."""
