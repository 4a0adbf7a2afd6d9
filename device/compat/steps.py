"""Long work in steps: a generator that yields between its steps and returns its result."""

# Yielded before a step that writes to storage. On a microcontroller that takes as long as a round of the main loop may
# take, so the step needs one that does nothing else.
WRITES = True


def run_to_completion(steps):
    """Run all steps of a generator and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as e:
            return e.value
