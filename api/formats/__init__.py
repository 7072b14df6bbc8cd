"""Output formats, one file each: they turn typed results into the answer that is sent.

What was read of a file is a `FileResult` (`api/tasks/results.py`). The answer to a question is an
`Answer`, or a `Stream` of pieces with the answer last. To add a format, such as Markdown or hOCR,
add a file here with functions of these, and let a route choose it.
"""
