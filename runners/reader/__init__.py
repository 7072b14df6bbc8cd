"""The embedded reader: Tesseract, what it reads, and how it answers."""
