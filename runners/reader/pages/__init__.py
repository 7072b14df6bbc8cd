"""How a page lies, and what covers it."""
