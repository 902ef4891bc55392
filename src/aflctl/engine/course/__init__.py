"""The course of a run: events and evaluations, records, checkpoints, what is said of it at the end."""
