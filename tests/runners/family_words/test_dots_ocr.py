from runners.family_words.dots_ocr import LAYOUT, READ, instruction


def test_the_layout_prompt_has_five_numbered_rules_between_blank_lines():
    asked, *rules = LAYOUT.split("\n\n")
    assert asked.startswith("Please output the layout information from the PDF image, including")
    assert [rule[:3] for rule in rules] == ["1. ", "2. ", "3. ", "4. ", "5. "]
    assert "  " not in LAYOUT.replace("\n    - ", "")


def test_each_mode_has_its_words():
    assert instruction("layout") == LAYOUT
    assert instruction("ocr") == READ
