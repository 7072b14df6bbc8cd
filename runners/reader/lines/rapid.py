"""Loads PP-OCR's models as rapidocr wraps them, to run on one thread."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import rapidocr
from numpy.typing import NDArray
from rapidocr.ch_ppocr_det import TextDetector
from rapidocr.ch_ppocr_rec import TextRecognizer
from rapidocr.utils.log import logger
from rapidocr.utils.parse_parameters import ParseParams
from rapidocr.utils.typings import EngineType

# When it is imported, OpenVINO tells its makers so, in a process that it forks, which may hang and
# outlive this one. It does without the module that does that.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

_PACKAGE = Path(rapidocr.__file__).parent
_MODELS = _PACKAGE / "models"


def load_detector() -> TextDetector:
    return TextDetector(_config("Det", _MODELS / "PP-OCRv6_det_small.onnx"))


def load_recogniser(model: Path | None = None) -> TextRecognizer:
    """The recogniser of a file of PP-OCR; None for the one of Latin and Chinese characters.

    The file holds its alphabet, or a file of the same name that ends in .txt has it.
    """
    path = model or _MODELS / "PP-OCRv6_rec_small.onnx"
    return TextRecognizer(_config("Rec", path))


class Inference:
    """Runs the model of a session of rapidocr. Used by one thread at a time."""

    def __init__(self, session: Any) -> None:
        self._request = session.session

    def __call__(self, blob: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the model finds, valid until the next call: nothing is copied."""
        self._request.infer([blob], share_inputs=True, share_outputs=True)
        found: NDArray[np.float32] = self._request.get_output_tensor().data
        return found


def _config(part: str, model: Path) -> Any:
    logger.setLevel("ERROR")
    all_parts = ParseParams.load(_PACKAGE / "config.yaml")
    config = all_parts[part]
    config.engine_type = EngineType.OPENVINO
    config.engine_cfg = {
        "inference_num_threads": 1,
        "num_streams": 1,
        "enable_cpu_pinning": False,  # it would pin every process of the reader to the same core
    }
    config.model_path = str(model)  # a path that is given is never downloaded
    keys = model.with_suffix(".txt")
    if part == "Rec" and keys.is_file():
        config.rec_keys_path = str(keys)
    return config
