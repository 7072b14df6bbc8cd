"""Client of the ChatVLMLLM service. Needs neither torch nor bentoml."""

from client.answers import (
    Batch,
    BatchError,
    BatchItem,
    Block,
    Chat,
    Health,
    Line,
    ModelInfo,
    Models,
    Ocr,
    Page,
    PageError,
    Piece,
    Unloaded,
    Usage,
)
from client.calls import ChatOptions, File, OcrOptions
from client.clients import AsyncChatVLMClient, ChatVLMClient
from client.errors import ChatVLMError

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
    "Unloaded",
    "Usage",
]
