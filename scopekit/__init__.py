"""Scopes for Python: say where a value is valid, and the work goes to it."""
