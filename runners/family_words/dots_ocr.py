"""How dots.ocr is asked: it recognises its task by the exact words."""

from typing import Literal

MAX_PIXELS = 11_289_600
"""Most pixels of an image that the model was trained on."""
READ = "Extract the text content from this image."
LAYOUT = """\
Please output the layout information from the PDF image, including each layout element's bbox, \
its category, and the corresponding text content within the bbox.

1. Bbox format: [x1, y1, x2, y2]

2. Layout Categories: The possible categories are ['Caption', 'Footnote', 'Formula', 'List-item', \
'Page-footer', 'Page-header', 'Picture', 'Section-header', 'Table', 'Text', 'Title'].

3. Text Extraction & Formatting Rules:
    - Picture: For the 'Picture' category, the text field should be omitted.
    - Formula: Format its text as LaTeX.
    - Table: Format its text as HTML.
    - All Others (Text, Title, etc.): Format their text as Markdown.

4. Constraints:
    - The output text must be the original text from the image, with no translation.
    - All layout elements must be sorted according to human reading order.

5. Final Output: The entire output must be a single JSON object.
"""
"""The model recognises its task by exactly these words, as they are in `dots_ocr/utils/prompts.py`
of its authors' repository, with the last line break. So the prompt cannot name a language."""

IMAGE_TOKEN = "<|imgpad|>"
IMAGE = f"<|img|>{IMAGE_TOKEN}<|endofimg|>"
"""What stands for an image in a prompt."""


def instruction(mode: Literal["ocr", "layout"]) -> str:
    """The words after a page that is to be read."""
    return LAYOUT if mode == "layout" else READ
