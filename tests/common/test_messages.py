from common.messages import Answer


def test_the_warnings_of_an_answer_are_joined():
    answer = Answer(text="", image_size=(1, 1))
    assert answer.with_warnings([None]).warning is None
    assert answer.with_warnings(["One."]).with_warnings(["Two.", None]).warning == "One. Two."
