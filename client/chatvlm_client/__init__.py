"""Python client and command line of the ChatVLMLLM service. Needs neither torch nor BentoML."""

from chatvlm_client.answers import (
    Batch,
    BatchError,
    BatchItem,
    Block,
    Chat,
    Done,
    Health,
    Line,
    ModelInfo,
    Models,
    Ocr,
    Page,
    PageError,
    Piece,
    Replica,
    Rotation,
    Usage,
    Word,
)
from chatvlm_client.calls import ChatOptions, File, OcrOptions
from chatvlm_client.clients import AsyncChatVLMClient, ChatVLMClient
from chatvlm_client.errors import ChatVLMError

__all__ = [
    "AsyncChatVLMClient",
    "Batch",
    "BatchError",
    "BatchItem",
    "Block",
    "Chat",
    "ChatOptions",
    "ChatVLMClient",
    "ChatVLMError",
    "Done",
    "File",
    "Health",
    "Line",
    "ModelInfo",
    "Models",
    "Ocr",
    "OcrOptions",
    "Page",
    "PageError",
    "Piece",
    "Replica",
    "Rotation",
    "Usage",
    "Word",
]
