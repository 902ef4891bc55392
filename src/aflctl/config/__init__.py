"""From YAML and --set to a checked configuration that knows where each value came from."""
