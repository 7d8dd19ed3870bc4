"""What do the Mistral renderers read, refuse and claim, besides writing what the models' templates write?"""

import pytest
from corpus import WEATHER, assistant, call, result, system, user
from made_renderers import made_renderer

from crucible.errors import RendererError
from crucible.train.messages import calls_of
from crucible.train.renderers import TrainOn

BOTH = pytest.mark.parametrize("name", ["mistral_v3", "mistral_v11"])
PARIS = call("get_weather", "a1b2c3d4e", city="Paris")
SUNNY = result("sunny", "a1b2c3d4e")


def parsed(name, text):
    """The content, the calls and the ending of a response."""
    renderer = made_renderer(name)
    response = renderer.parse_response(renderer.tokenizer.encode(text).ids)
    calls = [(one.name, one.object, one.id) for one in calls_of(response.message)]
    return response.message["content"], calls, response.ended


def written(name, messages, tools=()):
    """A conversation as text."""
    renderer = made_renderer(name)
    example = renderer.build_supervised_example(messages, train_on=TrainOn.ALL_TOKENS, tools=tools)
    return renderer.tokenizer.decode(example.tokens.tolist())


def trained(name, messages, tools=()):
    """Which messages each example trains."""
    made = made_renderer(name).build_supervised_examples(messages, train_on=TrainOn.ALL_ASSISTANT_MESSAGES, tools=tools)
    return [[span.message for span in example.spans] for example in made]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mistral_v3", '[TOOL_CALLS] [{"name": "f", "arguments": {"a": "é"}, "id": "a1b2c3d4e"}]</s>'),
        ("mistral_v11", '[TOOL_CALLS]f[CALL_ID]a1b2c3d4e[ARGS]{"a": "é"}</s>'),
    ],
)
def test_a_call_is_read(name, text) -> None:
    assert parsed(name, text) == ("", [("f", {"a": "é"}, "a1b2c3d4e")], "stop")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mistral_v3", "[TOOL_CALLS][{]"),
        ("mistral_v3", "[TOOL_CALLS][]"),
        ("mistral_v3", '[TOOL_CALLS][{"name": "f", "arguments": {}}]'),
        ("mistral_v3", '[TOOL_CALLS][{"name": "f", "arguments": "{}", "id": "a1b2c3d4e"}]'),
        ("mistral_v3", '[TOOL_CALLS][{"name": "f", "arguments": {"a": NaN}, "id": "a1b2c3d4e"}]'),
        ("mistral_v3", "[TOOL_CALLS]" + "[" * 9999),
        ("mistral_v11", "[TOOL_CALLS]f[ARGS]{}"),
        ("mistral_v11", "[TOOL_CALLS]f[CALL_ID]a1b2c3d4e[ARGS]{} and"),
        ("mistral_v11", "[TOOL_CALLS]f[CALL_ID]a1b2[ARGS]{}"),
        ("mistral_v11", "[TOOL_CALLS]f[CALL_ID]a1b2c3d4e[ARGS]{}[TOOL_CALLS]"),
        ("mistral_v11", "[TOOL_CALLS][CALL_ID]a1b2c3d4e[ARGS]{}"),
        ("mistral_v11", "Yes[ARGS]{}"),
    ],
)
def test_a_broken_call_is_malformed_and_its_text_is_kept(name, text) -> None:
    assert parsed(name, f"{text}</s>") == (text, [], "malformed")


@pytest.mark.parametrize(
    ("name", "text", "ended"),
    [
        ("mistral_v3", '[TOOL_CALLS][{"name": "f", "argu', "length"),
        ("mistral_v3", '[TOOL_CALLS][{"name": [INST]', "malformed"),
        ("mistral_v11", "[TOOL_CALLS]f[CALL_ID]a1b", "length"),
        ("mistral_v11", "[TOOL_CALLS]f[INST]", "malformed"),
    ],
)
def test_a_call_that_is_cut_off_is_no_call(name, text, ended) -> None:
    assert parsed(name, text) == (text, [], ended)


def test_text_before_a_call_is_read_and_is_malformed_where_it_cannot_be_written_again() -> None:
    v3 = 'Well. [TOOL_CALLS][{"name": "f", "arguments": {}, "id": "a1b2c3d4e"}]</s>'
    assert parsed("mistral_v3", v3) == ("Well. ", [("f", {}, "a1b2c3d4e")], "malformed")
    v11 = "Well. [TOOL_CALLS]f[CALL_ID]a1b2c3d4e[ARGS]{}</s>"
    assert parsed("mistral_v11", v11) == ("Well. ", [("f", {}, "a1b2c3d4e")], "stop")


def test_text_before_a_call_is_written_by_v11() -> None:
    text = written("mistral_v11", [user("a"), assistant("Well. ", PARIS)])
    assert text.endswith('[INST]a[/INST]Well. [TOOL_CALLS]get_weather[CALL_ID]a1b2c3d4e[ARGS]{"city": "Paris"}</s>')


def test_the_last_question_carries_v3s_system_message_wherever_it_stands() -> None:
    asked = [system("s"), user("a"), assistant("b"), user("c")]
    rest = [assistant(None, PARIS), SUNNY, assistant("d")]
    text = written("mistral_v3", asked)
    assert text == "<s>[INST]a[/INST]b</s>[INST]s\n\nc[/INST]"
    assert written("mistral_v3", [*asked, *rest]).startswith(text)


def test_a_system_message_of_ones_own_takes_the_place_of_v11s() -> None:
    assert written("mistral_v11", [user("a")]).startswith("<s>[SYSTEM_PROMPT]You are Mistral Small 3, a Large")
    assert written("mistral_v11", [system("s"), user("a")]) == "<s>[SYSTEM_PROMPT]s[/SYSTEM_PROMPT][INST]a[/INST]"


@BOTH
def test_answers_before_the_last_question_are_history_only_with_tools(name) -> None:
    messages = [user("a"), assistant(None, PARIS), SUNNY, assistant("b"), user("c"), assistant("d")]
    assert trained(name, messages) == [[1, 3, 5]]
    assert trained(name, messages, (WEATHER,)) == [[1, 3], [5]]


@BOTH
def test_tools_stand_before_each_question_that_reads_like_the_last(name) -> None:
    messages = [user("go on"), assistant("a"), user("b"), assistant("c"), user("go on"), assistant("d")]
    assert written(name, messages, (WEATHER,)).count("[AVAILABLE_TOOLS]") == 2
    assert trained(name, messages, (WEATHER,)) == [[3], [1, 5]]


def test_a_system_message_makes_v3s_earlier_answers_history() -> None:
    messages = [system("s"), user("a"), assistant("b"), user("c"), assistant("d")]
    assert trained("mistral_v3", messages) == [[2], [4]]
    assert trained("mistral_v11", messages) == [[2, 4]]


@BOTH
@pytest.mark.parametrize(
    ("messages", "tools", "complaint"),
    [
        ([user("a"), user("b")], (), "it is the assistant's"),
        ([assistant("a")], (), "it is the user's"),
        ([system("s"), assistant(None, PARIS)], (WEATHER,), "declared with the last question"),
        ([user("a"), assistant(None, call("f", "call_1"))], (), "ids of nine letters"),
        ([user("a"), {"role": "tool", "content": "b"}], (), "ids of nine letters"),
        (
            [user("a"), assistant(None, {"id": "a1b2c3d4e", "function": {"name": "f", "arguments": "x"}})],
            (),
            "are not an object",
        ),
        ([user("a"), assistant("b", thinking="c")], (), "no place for reasoning"),
        ([{"role": "developer", "content": "a"}, user("b")], (), "no place for the role developer"),
    ],
)
def test_what_the_templates_would_drop_or_refuse_is_refused_with_a_reason(name, messages, tools, complaint) -> None:
    with pytest.raises(RendererError, match=complaint):
        made_renderer(name).build_generation_prompt(messages, tools=tools)


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([system("s")], "there is none"),
        ([user("a"), system("s"), user("b")], "one place for a system message"),
        ([user("a"), assistant("Let me see.", PARIS)], "no place for text beside the call"),
    ],
)
def test_v3_refuses_what_only_v11_has_a_place_for(messages, complaint) -> None:
    with pytest.raises(RendererError, match=complaint):
        made_renderer("mistral_v3").build_generation_prompt(messages)
    assert made_renderer("mistral_v11").build_generation_prompt(messages)
