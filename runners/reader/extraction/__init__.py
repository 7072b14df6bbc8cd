"""Finds the values of fields whose names are labels on the page."""
