"""Rows that train nothing, or everything, or no end of turn are found."""

import numpy as np
import pytest

from crucible.train.renderers import RenderedExample, Span
from crucible.train.renderers.template import TemplateRenderer


class Unmasked(TemplateRenderer):
    """A plug-in whose mask covers the prompt too."""

    name = "unmasked"

    def build_supervised_example(self, messages, *, train_on, tools=()):
        example = super().build_supervised_example(messages, train_on=train_on, tools=tools)
        return RenderedExample.from_spans(example.tokens.tolist(), [Span(message=1, start=0, end=len(example.tokens))])


class Masked(TemplateRenderer):
    """A plug-in whose mask is empty."""

    name = "masked"

    def build_supervised_example(self, messages, *, train_on, tools=()):
        example = super().build_supervised_example(messages, train_on=train_on, tools=tools)
        return RenderedExample(tokens=example.tokens, weights=np.zeros_like(example.weights), spans=())


def test_a_share_of_trained_tokens_is_reported(find) -> None:
    found = find("trained")
    assert found.status == "pass" and "% of the tokens are trained" in found.sentence


def test_an_empty_mask_fails_with_the_first_row(find, tokenizers) -> None:
    found = find("trained", renderer=Masked(tokenizers["chatml"]))
    assert (found.status, found.where) == ("fail", "rows row 1") and "30 rows of 30 train no token" in found.sentence


def test_a_mask_over_the_prompt_fails(find, tokenizers) -> None:
    found = find("trained", renderer=Unmasked(tokenizers["chatml"]))
    assert found.status == "fail" and "the prompt's too" in found.sentence
    assert find("trained", renderer=Unmasked(tokenizers["chatml"]), train_on="all_tokens").status == "pass"


def test_hardly_any_trained_token_is_a_warning(find, clean) -> None:
    long = [{"messages": [{"role": "user", "content": "why " * 900}, {"role": "assistant", "content": "so"}]}]
    assert find("trained", long, max_length=None).status == "warn"


@pytest.mark.parametrize("renderer", ["chatml", "llama", "base_chatml", "eos_at_the_end", "plain", "thinking"])
def test_turns_that_end_with_their_stop_pass(find, renderer) -> None:
    assert find("end_of_turn", renderer=renderer).status == "pass"


def test_turns_without_a_stop_token_fail(find) -> None:
    found = find("end_of_turn", renderer="no_stop")
    assert found.status == "fail" and found.where == "rows row 1" and "30 of 30" in found.sentence


def test_a_renderer_that_leaves_the_stop_out_of_the_mask_fails_though_it_does_not_say_so(find, tokenizers) -> None:
    class Short(TemplateRenderer):
        def build_supervised_example(self, messages, *, train_on, tools=()):
            example = super().build_supervised_example(messages, train_on=train_on, tools=tools)
            (span,) = example.spans
            return RenderedExample.from_spans(
                example.tokens.tolist(), [Span(message=span.message, start=span.start, end=span.end - 1)]
            )

    assert find("end_of_turn", renderer=Short(tokenizers["chatml"])).status == "fail"


def test_some_turns_without_a_stop_are_a_warning(find, clean) -> None:
    odd = {"messages": [*clean[0]["messages"], {"role": "tool", "content": "4"}, *clean[1]["messages"]]}
    found = find("end_of_turn", [*clean, odd], renderer="plain")
    assert (found.status, found.where) == ("warn", "rows row 31")


def test_training_the_user_alone_has_no_turn_to_end(find) -> None:
    assert find("end_of_turn", train_on="all_user_and_system_messages").status == "skipped"
    assert find("end_of_turn", train_on="all_tokens").status == "pass"
