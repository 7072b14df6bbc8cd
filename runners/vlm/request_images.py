"""Images of requests, which are decoded when somebody needs their pixels.

Clients send an image anew with every question about it. What a prompt needs to know of an image
that was seen before is remembered; so if the model still has its features, it is not decoded again.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from PIL import Image

from common.images import decode_with_warnings, is_blank
from runners.legibility import letter_height

_MOST_REMEMBERED = 4096
"""Images; each takes some 300 bytes."""


@dataclass(frozen=True)
class ImageFacts:
    """What is remembered of an image."""

    size: tuple[int, int]
    """Width, height, upright."""
    warnings: tuple[str, ...]
    """What of it was not read, a sentence each."""
    is_blank: bool
    """Whether it shows nothing."""
    letter_height: float | None = None
    """As `letter_height` measures it; None until somebody needs it."""


class RequestImage:
    """An image as it came. For any thread."""

    def __init__(self, data: bytes, key: bytes, facts: ImageFacts | None = None) -> None:
        """data: the encoded image. key: its digest. facts: if they are known."""
        self.key = key
        self._data = data
        self._facts = facts

    @cached_property
    def pixels(self) -> Image.Image:
        """The upright RGB image. Raises `Refusal` (BAD_IMAGE) if nothing can be decoded."""
        return self._decoded[0]

    @property
    def facts(self) -> ImageFacts:
        """Raises `Refusal` (BAD_IMAGE) if nothing can be decoded."""
        if self._facts is None:
            image, warnings = self._decoded
            self._facts = ImageFacts(image.size, tuple(warnings), is_blank(image))
        return self._facts

    @property
    def undecoded(self) -> "RequestImage":
        """The same image without its pixels, which would take memory as long as it is held."""
        return RequestImage(self._data, self.key, self._facts)

    def letter_height(self) -> float:
        """As the function `letter_height` measures it. Raises as `facts` does."""
        facts = self.facts
        if facts.letter_height is None:
            self._facts = facts = replace(facts, letter_height=letter_height(self.pixels))
        assert facts.letter_height is not None
        return facts.letter_height

    @cached_property
    def _decoded(self) -> tuple[Image.Image, list[str]]:
        return decode_with_warnings(self._data)


def key_of(images: Sequence[RequestImage]) -> bytes:
    """The digest of several images."""
    return _digest(b"".join(image.key for image in images))


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


class ImageMemory:
    """The facts of the images that were decoded last. For any thread."""

    def __init__(self) -> None:
        self._facts: OrderedDict[bytes, ImageFacts] = OrderedDict()
        self._lock = threading.Lock()

    def image(self, data: bytes) -> RequestImage:
        key = _digest(data)
        with self._lock:
            if facts := self._facts.get(key):
                self._facts.move_to_end(key)
        return RequestImage(data, key, facts)

    def remember(self, image: RequestImage) -> None:
        """Raises `Refusal` (BAD_IMAGE) if nothing of the image can be decoded."""
        facts = image.facts
        with self._lock:
            self._facts[image.key] = facts
            while len(self._facts) > _MOST_REMEMBERED:
                self._facts.popitem(last=False)
