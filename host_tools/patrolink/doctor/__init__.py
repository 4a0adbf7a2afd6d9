"""Checks of the environment for `patrolink doctor`, and its support bundle."""
