"""The text layers of PDFs: found in the process that draws a PDF, arranged in the gateway."""
