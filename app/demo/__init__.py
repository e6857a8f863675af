"""Plausible people of a fictional English region, made from a seed: values only, no clock, no I/O."""
