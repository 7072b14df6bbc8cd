"""The small files of a checkpoint in the shape that those of the Hugging Face hub have.

They are less friendly than what the library saves: templates that do not know every role, settings
of images under older names or null, a flat configuration, sampling parameters for chats.
"""

import json
from pathlib import Path
from typing import Any

from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

_QWEN_PART = (
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}"
    "{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}"
    "{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}"
    "<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
)
_COUNTS = "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}"
_GO_ON = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
QWEN2_TEMPLATE = (
    f"{_COUNTS}{{% for message in messages %}}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    f"{{% for content in message['content'] %}}{_QWEN_PART}{{% endfor %}}<|im_end|>\n"
    f"{{% endif %}}{{% endfor %}}{_GO_ON}"
)
"""Writes every role, and a system turn of its own where the first turn is none."""


def _texts(message: str) -> str:
    """Writes the texts of a message."""
    return (
        f"{{% if {message}.content is string %}}{{{{ {message}.content }}}}{{% else %}}"
        f"{{% for content in {message}.content %}}"
        "{% if 'text' in content %}{{ content.text }}{% endif %}{% endfor %}{% endif %}"
    )


_TOOLS = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
    "{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}\n</tools>\n\n"
    "For each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)
_CALLS = (
    "{% for call in message.tool_calls or [] %}"
    "{% if (loop.first and message.content) or not loop.first %}\n{% endif %}"
    '<tool_call>\n{"name": "{{ call.function.name }}", "arguments": '
    "{% if call.function.arguments is string %}{{ call.function.arguments }}"
    "{% else %}{{ call.function.arguments | tojson }}{% endif %}}\n</tool_call>{% endfor %}"
)
QWEN3_TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{% if messages[0].role == 'system' %}"
    f"{_texts('messages[0]')}\n\n{{% endif %}}{_TOOLS}<|im_end|>\n"
    "{% elif messages[0].role == 'system' %}<|im_start|>system\n"
    f"{_texts('messages[0]')}<|im_end|>\n{{% endif %}}"
    f"{_COUNTS}{{% for message in messages %}}"
    "{% if message.role == 'user' %}<|im_start|>user\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    f"{{% for content in message.content %}}{_QWEN_PART}{{% endfor %}}{{% endif %}}<|im_end|>\n"
    "{% elif message.role == 'assistant' %}<|im_start|>assistant\n"
    f"{_texts('message')}{_CALLS}<|im_end|>\n"
    "{% elif message.role == 'tool' %}"
    "{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}"
    f"\n<tool_response>\n{_texts('message')}\n</tool_response>"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>\n{% endif %}"
    f"{{% endif %}}{{% endfor %}}{_GO_ON}"
)
"""Writes a system turn only where it is the first turn. It describes functions, and their calls."""
DOTS_TEMPLATE = (
    "{%- for m in messages %}{%- if m.role == 'system' %}"
    "{{- '<|system|>' + m.content + '<|endofsystem|>\\n' }}"
    "{%- elif m.role == 'user' %}{% if m.content is string %}"
    "{{- '<|user|>' + m.content + '<|endofuser|>' }}{% else %} {% for content in m.content %}"
    "{% if content.type == 'image' or 'image' in content or 'image_url' in content %}"
    "{{- '<|img|><|imgpad|><|endofimg|>' }}"
    "{% elif content.type == 'text' %}{{ content.text }}{% endif %}{% endfor %}{%- endif %}"
    "{%- elif m.role == 'assistant' %}{{- '<|assistant|>' + m.content }}"
    "{%- if not loop.last %}{{- '<|endofassistant|>' }}{%- endif %}{%- endif %}{%- endfor %}"
    "{%- if messages[-1].role != 'assistant' %}{{- '<|assistant|>' }}{%- endif %}"
)
"""Writes lists of parts without `<|user|>`, and fails for them in other roles."""

_CLIP = {"image_mean": OPENAI_CLIP_MEAN, "image_std": OPENAI_CLIP_STD}
_QWEN2_IMAGES = {
    **_CLIP,
    "min_pixels": 3136,
    "max_pixels": 12845056,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_processor_type": "Qwen2VLImageProcessor",
    "processor_class": "Qwen2VLProcessor",
}
_QWEN2_5_IMAGES = {**_QWEN2_IMAGES, "processor_class": "Qwen2_5_VLProcessor"}
_QWEN3_IMAGES = {
    "size": {"longest_edge": 16777216, "shortest_edge": 65536},
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "processor_class": "Qwen3VLProcessor",
    "image_processor_type": "Qwen2VLImageProcessorFast",
}
_DOTS_IMAGES = {
    **_QWEN2_IMAGES,
    "max_pixels": 11289600,
    "temporal_patch_size": 1,
    "processor_class": "DotsVLProcessor",
}
_UNSET = (
    "crop_size",
    "data_format",
    "device",
    "do_center_crop",
    "input_data_format",
    "return_tensors",
)
"""Settings of images that the library saved as null."""


def qwen2_files(folder: Path) -> None:
    """Gives a saved Qwen2-VL the files of the hub."""
    _flatten_config(folder)
    _qwen_files(folder, QWEN2_TEMPLATE, _QWEN2_IMAGES)
    update(
        folder / "generation_config.json",
        do_sample=True,
        repetition_penalty=1.0,
        temperature=0.01,
        top_p=0.001,
        top_k=1,
    )


def qwen2_5_files(folder: Path) -> None:
    """Gives a saved Qwen2.5-VL the files of the hub."""
    _flatten_config(folder)
    _qwen_files(folder, QWEN2_TEMPLATE, _QWEN2_5_IMAGES)
    update(
        folder / "generation_config.json",
        do_sample=True,
        repetition_penalty=1.05,
        temperature=0.000001,
    )


def qwen3_files(folder: Path) -> None:
    """Gives a saved Qwen3-VL the files of the hub."""
    _qwen_files(folder, QWEN3_TEMPLATE, _QWEN3_IMAGES)
    update(
        folder / "generation_config.json",
        do_sample=True,
        repetition_penalty=1.0,
        temperature=0.7,
        top_p=0.8,
        top_k=20,
    )


def got_files(folder: Path) -> None:
    """Gives a saved GOT-OCR 2.0 the files of the hub: it has no template."""
    images = _read(folder / "processor_config.json")["image_processor"]
    (folder / "processor_config.json").unlink()
    unset = dict.fromkeys(_UNSET)
    _write(
        folder / "preprocessor_config.json",
        {**unset, **images, "processor_class": "GotOcr2Processor"},
    )


def dots_files(folder: Path) -> None:
    """Gives a saved dots.ocr the files of the hub that are about images and prompts."""
    _write(folder / "preprocessor_config.json", _DOTS_IMAGES)
    _write(folder / "chat_template.json", {"chat_template": DOTS_TEMPLATE})


def update(file: Path, **entries: object) -> None:
    """Sets entries of a JSON file; None removes one."""
    old = _read(file) if file.exists() else {}
    _write(file, {key: value for key, value in (old | entries).items() if value is not None})


def _flatten_config(folder: Path) -> None:
    """Moves what `text_config` holds to the top of the configuration, under its older names."""
    config = _read(folder / "config.json")
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    flat = {
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
        "torch_dtype": "bfloat16",
    }
    left_out = {"model_type", "layer_types", "pad_token_id"}
    text = {name: value for name, value in text.items() if name not in left_out}
    _write(folder / "config.json", {**text, **config, **flat})


def _qwen_files(folder: Path, template: str, images: dict[str, Any]) -> None:
    for name in ("chat_template.jinja", "processor_config.json"):
        (folder / name).unlink()
    _write(folder / "preprocessor_config.json", images)
    _write(folder / "chat_template.json", {"chat_template": template})
    update(folder / "tokenizer_config.json", chat_template=template, processor_class=None)


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2))
