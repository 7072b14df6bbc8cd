"""Reads pages with Tesseract, the embedded reader, and answers questions from their text."""
