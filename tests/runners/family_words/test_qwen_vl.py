from runners.family_words.qwen_vl import instruction


def test_the_instruction_names_the_language_if_it_is_known():
    plain = instruction(None)
    assert plain.startswith("Read all the text in this image.")
    assert instruction("ru") == f"{plain} The text is in Russian."
