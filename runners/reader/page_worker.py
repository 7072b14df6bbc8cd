"""Reads pages in a worker process: decodes the image, and reads it with a `Reader`."""

import os
from collections.abc import Callable
from dataclasses import replace

from common.images import decode_with_warnings
from runners import malloc
from runners.process_pool.protocol import Check
from runners.reader.read_page import ReadPage, UnreadPage
from runners.reader.tessdata import find_tessdata
from settings import Settings


def load(settings: Settings) -> Callable[[UnreadPage, Check], ReadPage]:
    """Load a `Reader`. Returns the function that reads a page with it.

    Raises `Refusal` (UNAVAILABLE) without trained data. The function raises it with BAD_IMAGE.
    """
    # There is a process per core: with threads of its own, each would slow the others down. OpenMP
    # reads this when Tesseract is imported, on the next line.
    os.environ["OMP_THREAD_LIMIT"] = "1"
    malloc.return_freed_memory()
    from runners.reader.reading import Reader

    reader = Reader(find_tessdata(settings.tessdata), settings.recognisers)

    def read(page: UnreadPage, check: Check) -> ReadPage:
        image, warnings = decode_with_warnings(page.image, keep_grey=True)
        read = reader.read(image, page.language, check)
        malloc.trim()
        return replace(read, warnings=tuple(warnings))

    return read
