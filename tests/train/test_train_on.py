"""Each choice of train_on trains what its name says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crucible.errors import ConfigError, RendererError
from crucible.train.messages import Message
from crucible.train.renderers import TrainOn, get_renderer

CHAT = [
    Message(role="system", content="be kind"),
    Message(role="user", content="user"),  # the same word as its header
    Message(role="assistant", content="first"),
    Message(role="user", content="what then"),
    Message(role="assistant", content="second"),
    Message(role="tool", content="a fact"),
    Message(role="assistant", content="third"),
]

EXPECTED = {
    TrainOn.LAST_ASSISTANT_MESSAGE: ["third"],
    TrainOn.LAST_ASSISTANT_TURN: ["second", "third"],
    TrainOn.ALL_ASSISTANT_MESSAGES: ["first", "second", "third"],
    TrainOn.ALL_MESSAGES: [message["content"] for message in CHAT],
    TrainOn.ALL_USER_AND_SYSTEM_MESSAGES: ["be kind", "user", "what then"],
}


def spans_of(renderer, messages, train_on) -> list[str]:
    example = renderer.build_supervised_example(messages, train_on=train_on)
    return [renderer.tokenizer.decode(example.tokens[span.start : span.end].tolist()) for span in example.spans]


@pytest.mark.parametrize("train_on", EXPECTED)
def test_the_trained_messages_are_those_named_with_their_end_of_turn(renderers, train_on) -> None:
    assert spans_of(renderers["chatml"], CHAT, train_on) == [f"{text}<|im_end|>" for text in EXPECTED[train_on]]


def test_role_colon_trains_the_same_messages(renderers) -> None:
    texts = spans_of(renderers["plain"], CHAT, TrainOn.ALL_ASSISTANT_MESSAGES)
    assert texts == [" first\n\nUser:", " second\n\n", " third\n\nUser:"]


def test_role_colon_counts_an_answer_that_no_user_follows_as_unstopped(renderers) -> None:
    example = renderers["plain"].build_supervised_example(CHAT, train_on=TrainOn.ALL_ASSISTANT_MESSAGES)
    assert example.ends_without_stop == 1


@pytest.mark.parametrize("name", ["chatml", "thinking", "straddling", "plain"])
def test_all_tokens_trains_every_token_but_the_first(renderers, name) -> None:
    weights = renderers[name].build_supervised_example(CHAT, train_on=TrainOn.ALL_TOKENS).weights
    np.testing.assert_array_equal(weights, [0] + [1] * (len(weights) - 1))


@settings(max_examples=40, deadline=None)
@given(contents=st.lists(st.text(alphabet="user:\n éx", max_size=8).map(lambda t: t.strip() or "u"), min_size=1))
def test_user_spans_are_their_contents_even_where_a_header_says_the_same(renderers, contents) -> None:
    messages = [Message(role="user", content=content) for content in contents]
    texts = spans_of(renderers["chatml"], messages, TrainOn.ALL_USER_AND_SYSTEM_MESSAGES)
    assert texts == [f"{content}<|im_end|>" for content in contents]


def test_a_trimmed_content_is_found_as_the_template_writes_it(renderers) -> None:
    messages = [Message(role="user", content=" hi there \n")]
    assert spans_of(renderers["llama"], messages, TrainOn.ALL_MESSAGES) == ["hi there<|eot|>"]


def test_a_content_that_the_template_rewrites_cannot_be_told_apart(make_tokenizer) -> None:
    shouting = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | upper }}<|im_end|>{% endfor %}"
    with pytest.raises(RendererError, match="once and unchanged"):
        spans_of(get_renderer("template", make_tokenizer(shouting)), CHAT[:2], TrainOn.ALL_MESSAGES)


def test_customized_trains_the_flagged_messages(renderers) -> None:
    messages = [{**message, "trainable": index in (1, 4)} for index, message in enumerate(CHAT)]
    assert spans_of(renderers["chatml"], messages, TrainOn.CUSTOMIZED) == ["user<|im_end|>", "second<|im_end|>"]


def test_customized_refuses_each_message_without_the_flag(renderers) -> None:
    messages = [{**CHAT[0], "trainable": False}, *CHAT[1:3]]
    with pytest.raises(RendererError, match="does not say") as caught:
        renderers["chatml"].build_supervised_example(messages, train_on=TrainOn.CUSTOMIZED)
    assert [problem.where for problem in caught.value.problems] == ["messages[1]", "messages[2]"]


def test_flags_that_another_choice_would_ignore_are_refused(renderers) -> None:
    messages = [{**message, "trainable": True} for message in CHAT]
    with pytest.raises(RendererError, match="train_on=customized"):
        renderers["chatml"].build_supervised_example(messages, train_on=TrainOn.ALL_MESSAGES)


@pytest.mark.parametrize("name", ["chatml", "plain"])
def test_a_conversation_with_nothing_to_train_is_refused_instead_of_masked(renderers, name) -> None:
    with pytest.raises(RendererError, match="no message that train_on trains"):
        renderers[name].build_supervised_example(CHAT[:2], train_on=TrainOn.LAST_ASSISTANT_TURN)


def test_an_unknown_train_on_says_what_was_meant() -> None:
    with pytest.raises(ConfigError, match=r"(?i)did you mean all_assistant_messages"):
        TrainOn("all_assistant_mesages")
