"""Single training batches of a task."""


def training_batch(task, step, batch_size, seed=0):
    """The batch of one training step."""
    return next(task.batches("training", batch_size, seed=seed, start=step))
