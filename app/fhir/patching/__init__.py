"""Patches of a resource's text (R4 http.html#patch): JSON Patch and FHIRPath Patch, every untouched byte kept."""
