"""A page becomes the tokens of what was written on it, and knows where each message's part is."""

import pytest
from made_renderers import made_tokenizer

from crucible.train.renderers import Span
from crucible.train.renderers.page import Page

TOKENIZER = made_tokenizer(("<|end|>", "<|start|>"), ("<tag>",))
END, START = (TOKENIZER.special_tokens[text] for text in ("<|end|>", "<|start|>"))


def ids(text: str) -> list[int]:
    return list(TOKENIZER.encode(text).ids)


def written(page: Page) -> tuple[list[int], list[Span]]:
    return page.tokens(TOKENIZER.encode_ordinary)


def test_text_in_pieces_is_tokenised_as_one_text() -> None:
    page = Page()
    for piece in ("user\n", "\n", "", "hello"):
        page.text(piece)
    assert written(page)[0] == ids("user\n\nhello") != ids("user\n") + ids("\n") + ids("hello")


def test_a_control_token_parts_the_texts_around_it() -> None:
    page = Page()
    page.text("a\n")
    page.token(END)
    page.text("\nb")
    assert written(page)[0] == [*ids("a\n"), END, *ids("\nb")]


def test_where_sampling_takes_over_the_text_is_parted() -> None:
    page = Page()
    page.text("assistant\n")
    page.begin(3)
    page.text("\nhello")
    page.token(END)
    page.end()
    page.text("\n")
    tokens, spans = written(page)
    prompt, answer = ids("assistant\n"), [*ids("\nhello"), END]
    assert tokens == [*prompt, *answer, *ids("\n")]
    assert spans == [Span(message=3, start=len(prompt), end=len(prompt) + len(answer))]


def test_the_text_of_a_control_token_is_text_and_that_of_a_tag_the_tag() -> None:
    page = Page()
    page.text("<|end|><tag>")
    tokens, _ = written(page)
    assert END not in tokens
    assert tokens[-1:] == ids("<tag>")
    assert TOKENIZER.decode(tokens) == "<|end|><tag>"


@pytest.mark.parametrize("trained", [frozenset[int](), frozenset({0})])
def test_what_another_role_says_is_parted_from_its_frame_only_where_it_is_trained(trained) -> None:
    page = Page(trained)
    page.text("user\n")
    page.said(0, "\nhello", stop=END)
    tokens, spans = written(page)
    if trained:
        assert tokens == [*ids("user\n"), *ids("\nhello"), END]
        assert spans == [Span(message=0, start=len(ids("user\n")), end=len(tokens))]
    else:
        assert (tokens, spans) == ([*ids("user\n\nhello"), END], [])


def test_a_message_that_says_nothing_has_a_part_of_no_length() -> None:
    page = Page(frozenset({0}))
    page.token(START)
    page.said(0, "")
    page.text("hello")
    assert written(page)[1] == [Span(message=0, start=1, end=1)]


def test_an_answer_that_reads_otherwise_as_history_is_noted() -> None:
    page = Page()
    page.history(4)
    assert page.rewritten == {4}


@pytest.mark.parametrize("wrong", [lambda page: page.end(), lambda page: (page.begin(0), page.begin(1))])
def test_parts_do_not_nest(wrong) -> None:
    with pytest.raises(AssertionError):
        wrong(Page())
