"""What a run would do, without training: the schedule, its cost, and the host's time."""
