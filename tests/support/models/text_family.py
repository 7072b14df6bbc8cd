"""A family for the engine's tests, whose model is the text-only one."""

import sys
import threading
import time
import weakref
from collections.abc import Sequence

import pytest
import torch
from PIL import Image
from torch import Tensor

from common.catalog import Entry
from runners.vlm.interface import RowPart
from settings import Settings
from tests.support.models.text_vlm import STOP, TextVlm

ENTRY = Entry("text", "Text", "20k", family="text_for_tests", repository="nobody/text")


class Family:
    """Stands for a family's module: counts its loads, and can fail or hold them, and more."""

    def __init__(self) -> None:
        self.models: list[weakref.ref[TextVlm]] = []
        self.images: list[weakref.ref[Image.Image]] = []
        """Every image that was encoded."""
        self.loads = 0
        self.error: Exception | None = None
        self.endless = False
        self.loop = b""
        """What the model repeats without end, if anything."""
        self.says = b""
        """What the model answers, if anything is set, before its stop token."""
        self.slow = 0.0
        """Seconds that every further prefill takes."""
        self.may_load = threading.Event()
        self.may_encode = threading.Event()
        self.may_load.set()
        self.may_encode.set()

    def load(self, entry: Entry, settings: Settings) -> TextVlm:
        self.loads += 1
        self.may_load.wait(30)
        if self.error is not None:
            raise self.error
        model = Text(self)
        self.models.append(weakref.ref(model))
        return model


def install(monkeypatch: pytest.MonkeyPatch) -> Family:
    """Puts a new family where `ENTRY` looks for it."""
    torch.set_num_threads(1)
    family = Family()
    monkeypatch.setitem(sys.modules, "runners.families.text_for_tests", family)
    return family


class Text(TextVlm):
    def __init__(self, family: Family) -> None:
        super().__init__()
        self.family = family

    def encode(self, request):
        self.family.may_encode.wait(30)
        self.family.images += map(weakref.ref, request.images)
        return super().encode(request)

    def prefill(self, asked):
        time.sleep(self.family.slow)
        if (told := self._told(asked)) is not None:
            return told
        logits = super().prefill(asked)
        made = torch.tensor([bool(one.made) for one in asked])[:, None]
        return torch.where(made, endless(asked), logits) if self.family.endless else logits

    def decode(self, asked):
        if (told := self._told(asked)) is not None:
            return told
        return endless(asked) if self.family.endless else super().decode(asked)

    def _told(self, asked: Sequence[RowPart]) -> Tensor | None:
        """Logits that call for what the family is told to say; None if it is told nothing."""
        loop, says = self.family.loop, [*self.family.says, STOP]
        if not loop and len(says) == 1:
            return None
        made = [len(one.made) for one in asked]
        said = [loop[n % len(loop)] if loop else says[min(n, len(says) - 1)] for n in made]
        return torch.nn.functional.one_hot(torch.tensor(said), 256).float()


def endless(asked: Sequence[RowPart]) -> Tensor:
    """Logits that call for neither a stop token nor a loop."""
    places = torch.tensor([one.part.start for one in asked])
    return torch.nn.functional.one_hot(places**2 // 7 % 199, 256).float()
