"""Answers questions from the text of pages, in English and Russian. There is no language model."""
