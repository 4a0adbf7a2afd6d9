"""The conformance kit: cases, testees that they are run on, and reports whose verdicts can be recomputed."""
