"""The chat template of Qwen3-VL on the Hugging Face hub, as far as it describes functions."""

from pathlib import Path

_TEXTS = (
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in part %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}"
)
_SYSTEM = _TEXTS.replace("message", "messages[0]")
TOOL_TEMPLATE = (
    "{% if tools %}<|im_start|>system\n"
    "{% if messages[0].role == 'system' %}" + _SYSTEM + "\n\n{% endif %}"
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
    "{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}\n</tools>\n\n"
    "For each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
    "{% elif messages[0].role == 'system' %}<|im_start|>system\n" + _SYSTEM + "<|im_end|>\n"
    "{% endif %}"
    "{% for message in messages %}{% if message.role == 'user' %}<|im_start|>user\n"
    + _TEXTS
    + "<|im_end|>\n{% elif message.role == 'assistant' %}<|im_start|>assistant\n"
    + _TEXTS
    + "{% for call in message.tool_calls or [] %}"
    "{% if (loop.first and message.content) or not loop.first %}\n{% endif %}"
    '<tool_call>\n{"name": "{{ call.function.name }}", "arguments": '
    "{% if call.function.arguments is string %}{{ call.function.arguments }}"
    "{% else %}{{ call.function.arguments | tojson }}{% endif %}}\n</tool_call>{% endfor %}"
    "<|im_end|>\n{% elif message.role == 'tool' %}"
    "{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}"
    "\n<tool_response>\n" + _TEXTS + "\n</tool_response>"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>\n{% endif %}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def describe_tools(checkpoint: Path) -> Path:
    """Gives a checkpoint that template. Returns its folder."""
    (checkpoint / "chat_template.jinja").write_text(TOOL_TEMPLATE, "utf-8")
    return checkpoint
