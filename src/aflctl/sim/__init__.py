"""Time: the event loop, the fleet and the random streams. Knows no tensors."""
