"""Pins: what the type of a value says about where it is valid."""
