import io

import pytest
from PIL import Image

from common.failures import ErrorCode, Refusal
from runners.vlm import request_images
from runners.vlm.request_images import ImageMemory, key_of
from tests.support.models.prompts import page


def png(width: int = 30, height: int = 20, seed: int = 0) -> bytes:
    file = io.BytesIO()
    page(width, height, seed).save(file, "PNG")
    return file.getvalue()


def test_an_image_is_decoded_once_and_only_if_somebody_asks(monkeypatch):
    decoded = []
    decode = request_images.decode_with_warnings
    monkeypatch.setattr(
        request_images, "decode_with_warnings", lambda data: decoded.append(data) or decode(data)
    )
    image = ImageMemory().image(png())
    assert not decoded
    assert image.facts.size == image.pixels.size == (30, 20)
    assert len(decoded) == 1


def test_the_facts_of_an_image_that_is_sent_again_are_known_without_decoding(monkeypatch):
    memory = ImageMemory()
    cut = png(300, 200)[:-40]
    first = memory.image(cut)
    memory.remember(first)
    monkeypatch.setattr(request_images, "decode_with_warnings", pytest.fail)
    again = memory.image(cut)
    assert again.facts == first.facts
    assert again.facts.size == (300, 200)
    assert again.facts.warnings


def test_of_an_image_is_known_whether_it_shows_something():
    blank = io.BytesIO()
    Image.new("RGB", (30, 20), "white").save(blank, "PNG")
    assert ImageMemory().image(blank.getvalue()).facts.is_blank
    assert not ImageMemory().image(png()).facts.is_blank


def test_what_cannot_be_decoded_is_refused_and_not_remembered():
    memory = ImageMemory()
    for _ in range(2):
        image = memory.image(b"no image")
        with pytest.raises(Refusal) as refusal:
            memory.remember(image)
        assert refusal.value.code is ErrorCode.BAD_IMAGE


def test_the_image_that_was_sent_longest_ago_is_forgotten_first(monkeypatch):
    monkeypatch.setattr(request_images, "_MOST_REMEMBERED", 2)
    memory = ImageMemory()
    sent = [png(seed=seed) for seed in range(3)]
    memory.remember(memory.image(sent[0]))
    memory.remember(memory.image(sent[1]))
    memory.image(sent[0])
    memory.remember(memory.image(sent[2]))
    monkeypatch.setattr(request_images, "decode_with_warnings", lambda _: 1 / 0)
    assert memory.image(sent[0]).facts
    assert memory.image(sent[2]).facts
    with pytest.raises(ZeroDivisionError):
        assert memory.image(sent[1]).facts


def test_images_have_the_same_key_if_they_are_the_same_in_the_same_order():
    memory = ImageMemory()
    one, other = memory.image(png()), memory.image(png(seed=1))
    assert key_of([one, other]) == key_of([memory.image(png()), memory.image(png(seed=1))])
    assert len({key_of([one]), key_of([other, one]), key_of([one, other]), key_of([])}) == 4
