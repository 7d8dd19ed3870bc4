"""A conversation whose history is rewritten becomes as few examples as train each turn as it was generated."""

import pytest
from corpus import WEATHER, assistant, call, result, user
from made_renderers import made_renderer

from crucible.errors import RendererError
from crucible.train.renderers import RewrittenHistory, TrainOn

PARIS = call("get_weather", "a1b2c3d4e", city="Paris")
ALL = TrainOn.ALL_ASSISTANT_MESSAGES
CHAT = [user("a"), assistant("b", thinking="hm"), user("c"), assistant("d"), user("e"), assistant("f", thinking="ho")]
TOOLS = [
    user("Warm?"),
    assistant(None, PARIS, thinking="I need the weather."),
    result("21", "a1b2c3d4e"),
    assistant("Yes.", thinking="21 is warm."),
]


def trained(name, messages, train_on=ALL) -> list[list[int | None]]:
    """The messages that each example trains."""
    examples = made_renderer(name).build_supervised_examples(messages, train_on=train_on, tools=[WEATHER])
    return [[span.message for span in example.spans] for example in examples]


@pytest.mark.parametrize(
    ("name", "messages", "expected"),
    [
        ("qwen3", CHAT, [[1], [3], [5]]),
        ("qwen3", TOOLS, [[1, 3]]),
        ("qwen3", [*CHAT, *TOOLS], [[1], [3], [5], [7, 9]]),
        ("qwen3_5", [*TOOLS, *CHAT], [[1, 3], [5], [7], [9]]),
        ("qwen3_keep_thinking", [*CHAT, *TOOLS], [[1, 3, 5, 7, 9]]),
        ("qwen3_instruct", [user("a"), assistant("b"), user("c"), assistant("d")], [[1, 3]]),
    ],
)
def test_each_example_trains_the_turns_that_read_there_as_generated(name, messages, expected) -> None:
    assert trained(name, messages) == expected


def test_what_is_not_chosen_gets_no_example() -> None:
    assert trained("qwen3", CHAT, TrainOn.LAST_ASSISTANT_MESSAGE) == [[5]]
    flagged = [{**message, "trainable": index in (1, 5)} for index, message in enumerate(CHAT)]
    assert trained("qwen3", flagged, TrainOn.CUSTOMIZED) == [[1], [5]]


def test_other_roles_messages_are_trained_once_in_the_last_example_that_holds_them() -> None:
    assert trained("qwen3", CHAT, TrainOn.ALL_MESSAGES) == [[1], [3], [0, 2, 4, 5]]


def test_examples_end_with_the_turn_they_are_made_for() -> None:
    renderer = made_renderer("qwen3")
    first, _, whole = renderer.build_supervised_examples(CHAT, train_on=ALL)
    assert whole.tokens.tolist() == renderer.build_supervised_example(CHAT, train_on=TrainOn.ALL_TOKENS).tokens.tolist()
    text = renderer.tokenizer.decode(first.tokens.tolist())
    assert text == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<think>\nhm\n</think>\n\nb<|im_end|>\n"


def test_a_single_example_of_such_a_conversation_is_refused_by_name() -> None:
    with pytest.raises(RewrittenHistory) as caught:
        made_renderer("qwen3").build_supervised_example(CHAT, train_on=ALL)
    assert caught.value.messages == {1, 3}
    assert [problem.where for problem in caught.value.problems] == ["messages[1]", "messages[3]"]


def test_all_tokens_are_those_of_the_whole_conversation_once() -> None:
    (example,) = made_renderer("qwen3").build_supervised_examples(CHAT, train_on=TrainOn.ALL_TOKENS)
    assert example.weights.tolist() == [0.0] + [1.0] * (len(example.tokens) - 1)


def test_a_conversation_without_a_chosen_message_is_refused() -> None:
    with pytest.raises(RendererError, match="no message that train_on trains"):
        made_renderer("qwen3").build_supervised_examples([user("a")], train_on=ALL)


@pytest.mark.parametrize("arguments", ["", "1", "[1]", '{"a": NaN}', '{"a": "\\ud800"}', "[" * 100_000])
@pytest.mark.parametrize("name", ["qwen3", "qwen3_5", "deepseek_v3", "gpt_oss", "mistral_v3"])
def test_a_call_whose_arguments_are_no_object_is_refused(name, arguments) -> None:
    called = assistant("", {"id": "a1b2c3d4e", "function": {"name": "f", "arguments": arguments}})
    with pytest.raises(RendererError, match="arguments are not an object"):
        made_renderer(name).build_generation_prompt([user("a"), called, result("b", "a1b2c3d4e", "f")])
