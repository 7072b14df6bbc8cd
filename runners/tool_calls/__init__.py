"""Holds function calls in answers to their schemas, and reads them out of the text."""
