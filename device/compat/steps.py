"""Long work in steps: a generator that yields between its steps and returns its result."""


def run_to_completion(steps):
    """Run all steps of a generator and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as e:
            return e.value
