"""Untrusted bytes to a checked form: uploads, JSON bodies, fetched files, parameters."""
