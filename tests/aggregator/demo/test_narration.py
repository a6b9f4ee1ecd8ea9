"""The narration shows every expectation, and forgets none that did not hold."""

import io

from aggregator.demo.narration import WIDTH, Narration


def test_what_did_not_hold_is_kept_and_the_story_goes_on() -> None:
    out = io.StringIO()
    say = Narration(out)
    say.expect([], "nothing came")
    say.expect([1], "something came")
    assert (say.held, say.failed) == (1, ["nothing came"])
    assert out.getvalue() == "NO  nothing came\nok  something came\n"


def test_sentences_fit_the_width_and_lines_stay_as_they_are() -> None:
    out = io.StringIO()
    say = Narration(out)
    for tell in (say.tell, say.asked, say.came):
        tell("word " * 60)
    assert max(map(len, out.getvalue().splitlines())) <= WIDTH
    say.lines(["x" * 200])
    assert out.getvalue().endswith(f"    {'x' * 200}\n")
