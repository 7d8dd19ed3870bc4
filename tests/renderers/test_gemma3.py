"""What does the Gemma 3 renderer read, refuse and claim, besides writing what the models' template writes?"""

import pytest
from corpus import WEATHER, assistant, call, result, system, user
from made_renderers import made_renderer

from crucible.errors import RendererError
from crucible.train.renderers import TrainOn


def parsed(text):
    """The content and the ending of a response."""
    renderer = made_renderer("gemma3")
    response = renderer.parse_response(renderer.tokenizer.encode(text).ids)
    return response.message["content"], response.ended


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes.\n<end_of_turn>", ("Yes.\n", "stop")),
        ("Yes.", ("Yes.", "length")),
        ("Yes.<start_of_turn>user\n", ("Yes.<start_of_turn>user\n", "malformed")),
        ("Yes.<end_of_turn>\n<end_of_turn>", ("Yes.<end_of_turn>\n", "malformed")),
    ],
)
def test_the_ending_is_told_from_the_tokens(text, expected) -> None:
    assert parsed(text) == expected


@pytest.mark.parametrize(
    ("messages", "tools", "complaint"),
    [
        ([system("a")], (), "there is none"),
        ([user("a"), user("b")], (), "it is the assistant's"),
        ([assistant("a")], (), "it is the user's"),
        ([user("a"), system("b"), user("c")], (), "one place for a system message"),
        ([user("a")], (WEATHER,), "no place for tool declarations"),
        ([user("a"), assistant(None, call("f", "a1b2c3d4e"))], (), "no place for tool calls"),
        ([user("a"), result("b", "a1b2c3d4e")], (), "no place for the role tool"),
        ([user("a"), assistant("b", thinking="c")], (), "no place for reasoning"),
    ],
)
def test_what_the_template_would_drop_or_refuse_is_refused_with_a_reason(messages, tools, complaint) -> None:
    with pytest.raises(RendererError, match=complaint):
        made_renderer("gemma3").build_generation_prompt(messages, tools=tools)


def test_the_system_message_stands_in_the_first_turn_and_can_be_trained_there() -> None:
    renderer = made_renderer("gemma3")
    example = renderer.build_supervised_example(
        [system(" s\n"), user(" u "), assistant(" a ")], train_on=TrainOn.ALL_MESSAGES
    )
    texts = [renderer.tokenizer.decode(example.tokens[span.start : span.end].tolist()) for span in example.spans]
    assert texts == [" s\n", "u<end_of_turn>", "a<end_of_turn>"]
