"""What parity cannot show of Qwen3: what is read back, what is refused, what `auto` takes."""

import pytest
from corpus import WEATHER, assistant, call, result, system, user
from made_renderers import made_renderer, made_tokenizer, read

from crucible.errors import RendererError
from crucible.train.messages import calls_of
from crucible.train.renderers import TrainOn, get_renderer

PARIS = '{"name": "look", "arguments": {"city": "Paris"}}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>\nhm\n</think>\n\nYes.<|im_end|>", ("hm", "Yes.", [], "stop")),
        ("<think>\n\n</think>\n\nYes.<|im_end|>", ("", "Yes.", [], "stop")),
        ("Yes.<|im_end|>", ("", "Yes.", [], "stop")),
        ("It is <think> that opens.<|im_end|>", ("", "It is <think> that opens.", [], "stop")),
        ("<think>\nhm", ("hm", "", [], "length")),
        ("<think>\nhm<|im_end|>", ("hm", "", [], "malformed")),
        (f"<tool_call>\n{PARIS}\n</tool_call><|im_end|>", ("", "", [("look", {"city": "Paris"})], "stop")),
        (
            f"So.\n<tool_call>{PARIS}</tool_call>\n\n<tool_call>\n{PARIS}\n</tool_call>\n<|im_end|>",
            ("", "So.", [("look", {"city": "Paris"})] * 2, "stop"),
        ),
        (
            '<tool_call>\n{"name": "f", "arguments": {"a": "</tool_call>"}}\n</tool_call><|im_end|>',
            ("", "", [("f", {"a": "</tool_call>"})], "stop"),
        ),
        ('<tool_call>\n{"name": "f"}\n</tool_call><|im_end|>', ("", "", [("f", {})], "stop")),
    ],
)
def test_reasoning_and_calls_are_read(text, expected) -> None:
    assert read("qwen3", text) == expected


@pytest.mark.parametrize(
    "call_text",
    [
        "look(Paris)",
        "[1]",
        '{"arguments": {}}',
        '{"name": "", "arguments": {}}',
        '{"name": "f", "arguments": "{}"}',
        '{"name": "f", "arguments": {"a": NaN}}',
        '{"name": "f", "arguments": {"a": "\\ud800"}}',
        "[" * 5000,
        f"{PARIS} and",
    ],
)
def test_a_broken_call_is_malformed_and_stays_text(call_text) -> None:
    text = f"So.\n<tool_call>\n{call_text}\n</tool_call>"
    assert read("qwen3", f"{text}<|im_end|>") == ("", text, [], "malformed")


def test_text_after_a_call_and_a_call_that_is_not_closed_are_malformed() -> None:
    for text in (f"<tool_call>\n{PARIS}\n</tool_call> Done.", f"<tool_call>\n{PARIS}"):
        assert read("qwen3", f"{text}<|im_end|>") == ("", text, [], "malformed")
        assert read("qwen3", text) == ("", text, [], "length")


def test_a_control_token_inside_is_malformed() -> None:
    assert read("qwen3", "a<|im_start|>user\nb<|im_end|>") == ("", "a<|im_start|>user\nb", [], "malformed")


def test_reasoning_in_the_content_is_the_same_as_reasoning_apart() -> None:
    renderer = made_renderer("qwen3")
    inside, apart = assistant("<think>\nhm\n</think>\n\nYes."), assistant("Yes.", thinking="hm")
    one, other = (
        renderer.build_supervised_example([user("a"), said], train_on=TrainOn.LAST_ASSISTANT_MESSAGE).tokens.tolist()
        for said in (inside, apart)
    )
    assert one == other


@pytest.mark.parametrize("said", [assistant("a", thinking="hm"), assistant("<think>\nhm\n</think>\n\na")])
@pytest.mark.parametrize("name", ["qwen3_disable_thinking", "qwen3_5_disable_thinking"])
def test_reasoning_is_refused_where_thinking_is_off(name, said) -> None:
    with pytest.raises(RendererError, match="no place for reasoning"):
        made_renderer(name).build_generation_prompt([user("a"), said, user("b")])


def test_a_name_with_quotes_is_written_as_json() -> None:
    renderer, odd = made_renderer("qwen3_instruct"), 'a"b\\c'
    talk = [user("a"), assistant("", call(odd, "a1b2c3d4e", x=1))]
    (example,) = renderer.build_supervised_examples(talk, train_on=TrainOn.LAST_ASSISTANT_MESSAGE, tools=[WEATHER])
    (span,) = example.spans
    parsed = renderer.parse_response(example.tokens[span.start : span.end].tolist())
    assert [(made.name, made.object) for made in calls_of(parsed.message)] == [(odd, {"x": 1})]


def test_what_the_user_says_in_a_tools_tags_is_no_question() -> None:
    renderer = made_renderer("qwen3")
    thought, faked = assistant("", call("f", "1"), thinking="hm"), user("<tool_response>\n1\n</tool_response>")
    for reply in (faked, result("1", "1", "f")):
        prompt = renderer.build_generation_prompt([user("a"), thought, reply]).to_ints()
        assert "hm" in renderer.tokenizer.decode(prompt)


def test_a_conversation_without_a_question_cannot_be_trained_with_thinking_on() -> None:
    with pytest.raises(RendererError, match="history"):
        made_renderer("qwen3").build_supervised_examples(
            [system("a"), assistant("b")], train_on=TrainOn.ALL_ASSISTANT_MESSAGES
        )


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN3_CALLS = (
    "{% for m in messages %}{% if m.role == 'tool' %}"
    "{{ '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response><|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content }}{% for c in m.tool_calls or [] %}"
    '{{ \'<tool_call>\n{"name": "\' + c.function.name + \'", "arguments": \' }}'
    "{{ c.function.arguments | tojson }}{{ '}\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.mark.parametrize(("template", "name"), [(CHATML, "chatml"), (QWEN3_CALLS, "qwen3_instruct")])
def test_the_way_tools_are_called_tells_qwen3_from_plain_chatml(template, name) -> None:
    tokenizer = made_tokenizer(("<|im_end|>", "<|im_start|>"), ("<think>", "</think>"), template)
    assert get_renderer("auto", tokenizer).name == name
