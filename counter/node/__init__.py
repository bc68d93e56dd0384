"""One node: its threads, in what order they start and stop, and what they share."""
