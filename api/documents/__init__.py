"""From an uploaded file to its pages: opening, choice of pages, rasterising."""
