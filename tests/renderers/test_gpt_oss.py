"""What parity cannot show of gpt-oss: what is read back, what is refused, how it stops, what `auto` takes."""

import pytest
from corpus import WEATHER, assistant, call, result, system, user
from made_renderers import made_renderer, made_tokenizer, read

from crucible.errors import RendererError
from crucible.train.renderers import TrainOn, get_renderer
from crucible.train.renderers.gpt_oss import GptOssRenderer
from crucible.train.renderers.gpt_oss_tools import declared

ANALYSIS, FINAL = "<|channel|>analysis<|message|>", "<|channel|>final<|message|>"
NEXT, COMMENTARY = "<|end|><|start|>assistant", "<|channel|>commentary<|message|>"
LOOK = " to=functions.look<|channel|>commentary json<|message|>"
PARIS = call("look", "a1", city="Paris")


def written(messages, tools=()):
    """A conversation as text, without harmony's own system message."""
    renderer = made_renderer("gpt_oss")
    example = renderer.build_supervised_example(messages, train_on=TrainOn.ALL_TOKENS, tools=tools)
    return renderer.tokenizer.decode(example.tokens.tolist()).partition("<|end|>")[2]


def trained(messages):
    """Which messages each example trains."""
    made = made_renderer("gpt_oss").build_supervised_examples(messages, train_on=TrainOn.ALL_ASSISTANT_MESSAGES)
    return [[span.message for span in example.spans] for example in made]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{FINAL}Yes.<|return|>", ("", "Yes.", [], "stop")),
        (f"{ANALYSIS}hm{NEXT}{FINAL}Yes.<|return|>", ("hm", "Yes.", [], "stop")),
        (f"{ANALYSIS}hm{NEXT}{ANALYSIS}ho{NEXT}{FINAL}Yes.<|return|>", ("hm\nho", "Yes.", [], "stop")),
        (f'{LOOK}{{"a": 1}}<|call|>', ("", "", [("look", {"a": 1})], "stop")),
        (f"{ANALYSIS}hm{NEXT}{COMMENTARY}So.{NEXT}{LOOK}{{}}<|call|>", ("hm", "So.", [("look", {})], "stop")),
        (
            "<|channel|>commentary to=functions.look <|constrain|>json<|message|>{}<|call|>",
            ("", "", [("look", {})], "stop"),
        ),
        (f"{ANALYSIS}hm", ("hm", "", [], "length")),
        (f"{ANALYSIS}hm{NEXT} to=func", ("hm", "", [], "length")),
        (f"{ANALYSIS}hm{NEXT}{LOOK}{{}}", ("hm", "", [], "length")),
        ("<|channel|>ana", ("", "", [], "length")),
    ],
)
def test_channels_and_calls_are_read(text, expected) -> None:
    assert read("gpt_oss", text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Yes.<|return|>",
        f"{ANALYSIS}hm<|return|>",
        f"{COMMENTARY}So.<|return|>",
        f"{FINAL}Yes.<|call|>",
        f"{FINAL}Yes.<|end|><|return|>",
        f"{FINAL}Yes.{NEXT}{FINAL}No.<|return|>",
        f"{LOOK}{{}}<|return|>",
        f"{LOOK}{{<|call|>",
        f"{LOOK}[1]<|call|>",
        " to=python<|channel|>commentary json<|message|>{}<|call|>",
        "<|channel|>aside<|message|>Yes.<|return|>",
        f"{ANALYSIS}hm<|end|><|start|>user{FINAL}Yes.<|return|>",
        f"{FINAL}a<|channel|>b<|return|>",
        "<|return|>",
        "Yes, it is",
    ],
)
def test_what_is_no_answer_and_no_call_is_malformed_and_its_text_is_kept(text) -> None:
    thinking, content, calls, ended = read("gpt_oss", text)
    assert (thinking, calls, ended) == ("", [], "malformed")
    assert content.removesuffix("<|call|>").removesuffix("<|return|>") == text.removesuffix("<|call|>").removesuffix(
        "<|return|>"
    )


def test_an_answer_and_a_call_each_stop_a_turn() -> None:
    renderer = made_renderer("gpt_oss")
    assert renderer.stop_sequences == [renderer.ids["<|return|>"], renderer.ids["<|call|>"]]


def test_each_answer_is_trained_with_the_calls_that_led_to_it() -> None:
    turn = [user("a"), assistant("", PARIS, thinking="hm"), result("sun", "a1"), assistant("b", thinking="ho")]
    assert trained([*turn, *turn]) == [[1, 3], [5, 7]]


def test_reasoning_before_a_call_is_there_when_its_answer_is_trained_and_gone_after_it() -> None:
    turn = [user("a"), assistant("", PARIS, thinking="hm"), result("sun", "a1"), assistant("b", thinking="ho")]
    assert ("hm" in written(turn), "ho" in written(turn)) == (True, True)
    later = written([*turn, user("c"), assistant("d")])
    assert ("hm" in later, "ho" in later) == (False, False)


def test_text_beside_reasoning_and_a_call_is_a_preamble() -> None:
    talk = [user("a"), assistant("So.", PARIS, thinking="hm")]
    answer = f'{ANALYSIS}hm{NEXT}{COMMENTARY}So.{NEXT}{LOOK}{{"city": "Paris"}}<|call|>'
    assert written(talk).endswith(f"<|start|>assistant{answer}")
    assert read("gpt_oss", answer) == ("hm", "So.", [("look", {"city": "Paris"})], "stop")


@pytest.mark.parametrize(
    ("messages", "match"),
    [
        ([user("a"), system("b"), user("c")], "later system"),
        ([system("a"), {"role": "developer", "content": "b"}, user("c")], "later system"),
        ([user("a"), assistant("", PARIS, PARIS), user("b")], "several calls"),
        ([user("a"), result("b", "a1"), user("c")], "without a call"),
        ([user("a"), assistant("", PARIS), assistant("b"), result("c", "a1")], "without a call"),
    ],
)
def test_what_has_no_place_is_refused(messages, match) -> None:
    with pytest.raises(RendererError, match=match):
        made_renderer("gpt_oss").build_generation_prompt(messages)


def test_a_description_may_be_missing_and_types_may_be_of_every_kind() -> None:
    properties = {
        "n": {"type": ["integer", "null"]},
        "xs": {"type": "array", "items": {"type": "number"}, "nullable": True},
        "o": {"type": "object", "properties": {"deep": {"type": "string", "enum": ["p", "q"]}}},
        "either": {"oneOf": [{"type": "string"}, {"type": "boolean", "default": True}], "default": 1},
        "any": {},
    }
    text = declared([{"name": "f", "parameters": {"type": "object", "properties": properties, "required": ["n"]}}])
    assert text == (
        "## functions\n\nnamespace functions {\n\ntype f = (_: {\nn: integer | null,\nxs?: number[] | null,\n"
        'o?: {\ndeep?: \n                "p" | "q"},\n'
        "either?: string | \nboolean                    // default: true// default: 1,\nany?: any,\n"
        "}) => any;\n\n} // namespace functions"
    )


def test_a_tool_without_parameters_takes_nothing() -> None:
    assert "// Now.\ntype now = () => any;\n\n}" in declared([{"name": "now", "description": "Now."}])
    assert "type get_weather = (_: {" in written([user("a"), assistant("b")], tools=[WEATHER])


def template(effort):
    """Harmony without tools and calls."""
    return (
        "{{ '<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: "
        "2024-06\nCurrent date: ' + strftime_now('%Y-%m-%d') + '\n\nReasoning: ' + (reasoning_effort or '"
        + effort
        + "')"
        " + '\n\n# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>' }}"
        "{% for m in messages %}{% if m.role == 'user' %}{{ '<|start|>user<|message|>' + m.content + '<|end|>' }}"
        "{% else %}{{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}"
        "{{ '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
    )


def test_auto_takes_medium_effort_and_the_others_are_chosen() -> None:
    tokenizer = made_tokenizer(GptOssRenderer.controls, (), template("medium"))
    names = ("auto", "gpt_oss_low", "gpt_oss_high")
    assert [get_renderer(name, tokenizer).name for name in names] == ["gpt_oss", *names[1:]]
