"""Words of reflection and steps of reasoning, counted by hand."""

from r1kit.evaluate.text import count_reflections, count_steps


def test_reflections_are_counted_as_whole_words_in_both_languages():
    assert (
        count_reflections("Wait, 3*5=15. No, that is wrong. Try again: 4*5.") == 4
    )  # wait, no, wrong, try again
    assert count_reflections("15 不对，再试。检查一下") == 3
    assert count_reflections("I checked it and am checking again") == 2


def test_words_that_only_contain_a_reflection_are_none():
    assert count_reflections("The waiter wrote checkers, nonsense and a checkbook") == 0
    assert count_reflections("I double-check it") == 1


def test_steps_are_lines_or_sentences_with_content():
    assert count_steps("First 3.5+1=4.5. Then 4.5*2=9.\nSo 9") == 3
    assert count_steps("先算 3+4=7。再算 7*2=14；\n\n") == 2
    assert count_steps(" ... \n--") == 0
