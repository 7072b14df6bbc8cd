"""Turns an uploaded file into its pages: opens it, chooses the pages, has them drawn."""
