"""From a plan to the parts of an experiment: data, model, fleet, executor, loop."""
