import pytest

from common.catalog import CATALOG
from runners.upstream.protocol import ServedModel
from runners.upstream.served import find

ENTRY = CATALOG["qwen3_vl_8b"]


def listed(*models: str | tuple[str, str]) -> list[ServedModel]:
    """Ids, or ids with the folder that they are loaded from."""
    pairs = [(model, None) if isinstance(model, str) else model for model in models]
    return [ServedModel(id=name, root=root) for name, root in pairs]


@pytest.mark.parametrize(
    "model",
    [
        "Qwen/Qwen3-VL-8B-Instruct",
        "qwen3-vl-8b-instruct",
        "qwen3_vl_8b",
        "/srv/weights/qwen3_vl_8b",
        "/srv/weights/Qwen3-VL-8B-Instruct/",
        ("my-model", "/srv/weights/qwen3_vl_8b"),
        ("my-model", "Qwen/Qwen3-VL-8B-Instruct"),
    ],
)
def test_a_model_is_known_by_its_repository_its_id_or_its_folder(model):
    other = listed("Qwen/Qwen2-VL-2B-Instruct")
    found = find(ENTRY, [*other, *listed(model)], None)
    assert found is not None
    assert [found] == listed(model)


@pytest.mark.parametrize(
    "model",
    ["Qwen/Qwen3-VL-8B-Instruct-FP8", "Qwen/Qwen3-VL-4B-Instruct", "model", "Qwen", ("a", "/b")],
)
def test_another_model_is_not_taken_for_it_even_if_it_is_the_only_one(model):
    assert find(ENTRY, listed(model), None) is None


def test_a_setting_says_which_one_it_is():
    served = listed("Qwen/Qwen3-VL-8B-Instruct", "Qwen/Qwen3-VL-8B-Instruct-FP8")
    found = find(ENTRY, served, "Qwen/Qwen3-VL-8B-Instruct-FP8")
    assert found == served[1]
    assert find(ENTRY, served, "Qwen3-VL-8B") is None
