"""Many runs as one: a matrix of configurations, worked off by processes or a cluster."""
