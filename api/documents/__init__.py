"""A document to pages: which of them, and their pictures."""
