"""Client work: tensors, batches, optimizers, executors. Knows no time."""
