"""Tables, statistics and pictures; reads run directories only."""
