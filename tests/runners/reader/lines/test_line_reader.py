from pathlib import Path

from runners.reader.lines.line_reader import cyrillic_models


def test_recognisers_of_cyrillic_are_found_by_their_names(tmp_path: Path) -> None:
    for name in ("eslav_PP-OCRv5_rec.onnx", "Cyrillic_rec.onnx", "arabic.onnx", "eslav.txt"):
        (tmp_path / name).touch()
    names = [path.name for path in cyrillic_models(tmp_path)]
    assert names == ["Cyrillic_rec.onnx", "eslav_PP-OCRv5_rec.onnx"]
