"""Makes an answer of the chunks that an upstream sends."""

from collections.abc import Sequence

from common.catalog import Entry
from common.failures import Refusal
from common.messages import Answer, FinishReason, Request, Usage
from runners.family_words.dots_layout import read_layout
from runners.held_text import Stripped
from runners.upstream.families import UpstreamFamily
from runners.upstream.loop_guard import LoopGuard
from runners.upstream.pictures import Picture
from runners.upstream.protocol import Chunk, TokenCounts
from runners.upstream.refusals import broken_off, not_understood

_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


class GrowingAnswer:
    """The answer of one request, while it is made."""

    def __init__(self, entry: Entry, family: UpstreamFamily, request: Request) -> None:
        self._name = entry.name
        self._family = family
        self._request = request
        self._guard = LoopGuard(request.max_tokens)
        self._stripped = Stripped()
        self._has_text = False
        self._shown: list[str] = []
        self._counts: TokenCounts | None = None
        self.reason: FinishReason | None = None
        """Why it ended; None while it is made."""

    def add(self, chunk: Chunk) -> str:
        """Add a chunk. Returns the text that can be shown now.

        Sets `reason`. Raises `Refusal` (FAULT) if the server has ended it for another reason.
        """
        self._counts = chunk.usage or self._counts
        self._has_text = self._has_text or bool(chunk.text.strip())
        piece = self._show(self._guard.add(chunk.text))
        if self._guard.is_endless:
            self.reason = "repetition"
        elif chunk.finish_reason is not None:
            if chunk.finish_reason not in _REASONS:
                raise not_understood(self._name)
            self.reason = _REASONS[chunk.finish_reason]
        return piece

    def end_at_deadline(self, refusal: Refusal) -> None:
        """End it with what there is of it. Raises `refusal` if there is nothing."""
        if self.reason is None:
            if not self._has_text:
                raise refusal
            self.reason = "deadline"

    def rest(self) -> str:
        """The last text, when no more chunks come.

        Raises `Refusal` (UNAVAILABLE) if the server has broken it off.
        """
        if self.reason is None:
            raise broken_off(self._name)
        piece = self._show(self._guard.end(is_cut=self.reason in ("length", "deadline")))
        if self._guard.is_endless:
            self.reason = "repetition"
        return piece

    def answer(self, pictures: Sequence[Picture]) -> Answer:
        """The whole answer."""
        text = "".join(self._shown)
        answer = Answer(
            text=text,
            image_size=pictures[0].size if pictures else (0, 0),
            finish_reason=self.reason,
            usage=self._usage(pictures),
        )
        request = self._request
        asks_layout = request.task == "ocr" and request.options.mode == "layout"
        if not self._family.has_layouts or not asks_layout or not pictures:
            return answer
        layout = read_layout(text, pictures[0].scale, pictures[0].size)
        return answer.model_copy(
            update={"text": layout.text, "blocks": layout.blocks, "truncated": layout.truncated}
        )

    def _show(self, text: str) -> str:
        piece = self._stripped.add(text)
        self._shown.append(piece)
        return piece

    def _usage(self, pictures: Sequence[Picture]) -> Usage | None:
        """The server's counts; None if it tells none."""
        if self._counts is None:
            return None
        details = self._counts.prompt_tokens_details
        told = details.multimodal_tokens if details else None
        visual = sum(picture.visual_tokens for picture in pictures)
        return Usage(
            prompt_tokens=self._counts.prompt_tokens,
            visual_tokens=told.get("image", 0) if told else visual,
            completion_tokens=self._counts.completion_tokens,
        )
