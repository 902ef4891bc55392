"""Run directories: layout, records, provenance, checkpoints."""
