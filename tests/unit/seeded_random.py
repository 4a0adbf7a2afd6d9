"""Reproducible random numbers for both runtimes."""


def seeded(seed):
    """Return below(n), a uniform integer in 0..n-1 each time."""
    state = [seed]

    def below(n):
        state[0] = (state[0] * 1103515245 + 12345) & 0x7FFFFFFF
        return (state[0] >> 8) % n

    return below
