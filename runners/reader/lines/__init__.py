"""Finds lines of text with PP-OCR, and reads each word in its alphabet."""
