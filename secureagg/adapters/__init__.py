"""Drivers of other systems, one module each, imported by name only."""
