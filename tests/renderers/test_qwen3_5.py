"""What parity cannot show of Qwen3.5: what is read back, what is refused, when history is as it was generated."""

import pytest
from corpus import assistant, call, result, system, user
from made_renderers import made_renderer, read

from crucible.errors import RendererError
from crucible.train.messages import calls_of
from crucible.train.renderers import TrainOn

LOOK = "<tool_call>\n<function=look>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hm\n</think>\n\nYes.<|im_end|>", ("hm", "Yes.", [], "stop")),
        ("\n</think>\n\nYes.<|im_end|>", ("", "Yes.", [], "stop")),
        ("<think>\nhm\n</think>\n\nYes.<|im_end|>", ("hm", "Yes.", [], "stop")),
        ("hm", ("hm", "", [], "length")),
        ("hm<|im_end|>", ("hm", "", [], "malformed")),
        (f"\n</think>\n\n{LOOK}<|im_end|>", ("", "", [("look", {"city": "Paris"})], "stop")),
        (
            f"hm\n</think>\n\nSo.\n\n{LOOK}\n{LOOK}<|im_end|>",
            ("hm", "So.", [("look", {"city": "Paris"})] * 2, "stop"),
        ),
        (
            "</think><tool_call><function=f></function></tool_call><|im_end|>",
            ("", "", [("f", {})], "stop"),
        ),
        (
            "</think><tool_call><function=f><parameter=a>1</parameter></function></tool_call><|im_end|>",
            ("", "", [("f", {"a": 1})], "stop"),
        ),
    ],
)
def test_reasoning_and_calls_are_read(text, expected) -> None:
    assert read("qwen3_5", text) == expected


@pytest.mark.parametrize(
    "broken",
    [
        "<tool_call>\n<function=f>\n</tool_call>",
        "<tool_call>\n<function=>\n</function>\n</tool_call>",
        "<tool_call>\n<function=f>\n<parameter=a>\n1\n</function>\n</tool_call>",
        "<tool_call>\n<function=f>\nso\n</function>\n</tool_call>",
        '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>',
        f"{LOOK} Done.",
    ],
)
def test_a_broken_call_is_malformed_and_stays_text(broken) -> None:
    assert read("qwen3_5", f"</think>So.\n\n{broken}<|im_end|>") == ("", f"So.\n\n{broken}", [], "malformed")
    assert read("qwen3_5_disable_thinking", broken)[3] == "length"


@pytest.mark.parametrize(
    ("given", "back"),
    [
        ("", ""),
        ("\n a \n\n", "\n a \n\n"),
        ("</parameter>", "</parameter>"),
        ("</function>", "</function>"),
        ('"quoted"', '"quoted"'),
        ("NaN", "NaN"),
        ("{a", "{a"),
        (True, True),
        (None, None),
        (-1.5, -1.5),
        ({"a": [1, None, True, "b"]}, {"a": [1, None, True, "b"]}),
        ("5", 5),
        ("true", True),
    ],
)
def test_an_argument_comes_back_but_for_texts_that_are_written_as_another_value_is(given, back) -> None:
    renderer = made_renderer("qwen3_5")
    talk = [user("a"), assistant("", call("f", "a1b2c3d4e", x=given, y="z"))]
    (example,) = renderer.build_supervised_examples(talk, train_on=TrainOn.LAST_ASSISTANT_MESSAGE)
    (span,) = example.spans
    parsed = renderer.parse_response(example.tokens[span.start : span.end].tolist())
    (made,) = calls_of(parsed.message)
    assert made.object == {"x": back, "y": "z"}
    assert parsed.ended == "stop"


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([user("a"), assistant("b"), system("c")], "system message after the first"),
        ([system("a")], "needs a message by the user"),
        ([user("<tool_response>\n1\n</tool_response>")], "needs a message by the user"),
        ([result("1", "1"), user("a")], "cannot begin with a tool's result"),
        ([user("a"), assistant("", call("f>", "1"))], "no tag can hold"),
        ([user("a"), assistant("", call("f", "1", **{"x\ny": 1}))], "no tag can hold"),
        ([user("a"), {"role": "developer", "content": "b"}], "the role developer"),
    ],
)
def test_what_the_convention_cannot_write_is_refused(messages, reason) -> None:
    with pytest.raises(RendererError, match=reason):
        made_renderer("qwen3_5").build_generation_prompt(messages)


def test_an_empty_block_is_parted_where_the_prompt_ends_and_whole_in_history() -> None:
    renderer = made_renderer("qwen3_5")
    encode, think = renderer.tokenizer.encode, renderer.ids["<think>"]
    called = [user("a"), assistant("", call("f", "1"))]
    example = renderer.build_supervised_example(called, train_on=TrainOn.LAST_ASSISTANT_MESSAGE)
    history = renderer.build_generation_prompt([*called, result("1", "1", "f")]).to_ints()
    after = [ids[ids.index(think) + 1 :][:2] for ids in (example.tokens.tolist(), history)]
    assert after[0] == [*encode("\n").ids, *encode("\n").ids]
    assert after[1] == [*encode("\n\n").ids, renderer.ids["</think>"]]


@pytest.mark.parametrize(
    ("name", "thinking", "expected"),
    [
        ("qwen3_5", "hm", [[1, 3]]),
        ("qwen3_5", None, [[1], [3]]),
        ("qwen3_5_disable_thinking", None, [[1, 3]]),
        ("qwen3_5_keep_thinking", None, [[1, 3]]),
    ],
)
def test_steps_between_calls_are_trained_together_where_they_stay_as_they_were_generated(
    name, thinking, expected
) -> None:
    talk = [user("a"), assistant("", call("f", "1"), thinking=thinking), result("1", "1", "f"), assistant("b")]
    examples = made_renderer(name).build_supervised_examples(talk, train_on=TrainOn.ALL_ASSISTANT_MESSAGES)
    assert [[span.message for span in example.spans] for example in examples] == expected
