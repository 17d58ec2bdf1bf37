"""Readers, one per source: `read(place, options) -> Dataset`."""
