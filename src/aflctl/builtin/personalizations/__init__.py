"""Wrappers around any method; one file a plug-in, shared parts in `selectors`, `subspace` and `tracks`."""
