"""What do the Llama 3 renderers read, refuse and claim, besides writing what the models' templates write?"""

import pytest
from corpus import WEATHER, assistant, call, result, system, user
from made_renderers import made_renderer, made_tokenizer

from crucible.adapters.tokenizer import HfTokenizer
from crucible.adapters.tokenizer.files import TokenizerFiles
from crucible.errors import RendererError
from crucible.train.messages import calls_of
from crucible.train.renderers import TrainOn, get_renderer
from crucible.train.renderers.llama3 import Llama31Renderer

WITH_CALLS = pytest.mark.parametrize("name", ["llama3_1", "llama3_2"])
PARIS = call("get_weather", "a1b2c3d4e", city="Paris")

# In the shape of Llama 3.2's; 3.1's also knows built-in tools.
LLAMA3_2 = """{{- bos_token + "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools or BUILT_IN %}{{- "Environment: ipython\n" }}{%- endif %}
{{- "Cutting Knowledge Date: December 2023\nToday Date: " + strftime_now("%d %b %Y") + "\n\n" }}
{%- if messages[0].role == "system" %}{{- messages[0].content }}{%- set messages = messages[1:] %}{%- endif %}
{{- "<|eot_id|>" }}
{%- for message in messages %}
{{- "<|start_header_id|>" + ("ipython" if message.role == "tool" else message.role) + "<|end_header_id|>\n\n" }}
{%- for call in message.tool_calls %}
{{- '{"name": "' + call.function.name + '", "parameters": ' + call.function.arguments | tojson + '}' }}
{%- endfor %}{{- (message.content | tojson if message.role == "tool" else message.content) + "<|eot_id|>" }}
{%- endfor %}
{%- if add_generation_prompt %}{{- "<|start_header_id|>assistant<|end_header_id|>\n\n" }}{%- endif %}"""


def parsed(name, text):
    """The content, the calls and the ending of a response."""
    renderer = made_renderer(name)
    response = renderer.parse_response(renderer.tokenizer.encode(text).ids)
    calls = [(one.name, one.object) for one in calls_of(response.message)]
    return response.message["content"], calls, response.ended


@WITH_CALLS
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"name": "f", "parameters": {"a": "é"}}<|eot_id|>', ("f", {"a": "é"})),
        (' {"type": "function", "name": "f", "parameters": {}}\n<|eot_id|>', ("f", {})),
        ('<|python_tag|>{"name": "f", "parameters": {}}<|eom_id|>', ("f", {})),
        ('<|python_tag|>search.call(query="a b", n="2")<|eom_id|>', ("search", {"query": "a b", "n": "2"})),
        ("<|python_tag|>print(1)<|eom_id|>", ("code_interpreter", {"code": "print(1)"})),
    ],
)
def test_a_call_is_read_in_each_form_that_the_models_use(name, text, expected) -> None:
    assert parsed(name, text) == ("", [expected], "stop")


@WITH_CALLS
@pytest.mark.parametrize(
    "text",
    [
        '{"name": "f", "parameters": {"a": }}',
        '{"name": "f", "parameters": [1]}',
        '{"name": "f", "parameters": {"a": NaN}}',
        '{"name": "f", "parameters": {}}; {"name": "g", "parameters": {}}',
        '{"name": "f", "parameters": ' + '{"a": ' * 9999,
        'Well: <|python_tag|>{"name": "f", "parameters": {}}',
    ],
)
def test_a_broken_call_is_malformed_and_its_text_is_kept(name, text) -> None:
    assert parsed(name, f"{text}<|eot_id|>") == (text, [], "malformed")


@WITH_CALLS
@pytest.mark.parametrize("text", ['{"name": "f", "parameters": {"a"', "<|python_tag|>print(", "Yes, i", ""])
def test_a_call_that_is_cut_off_is_no_call(name, text) -> None:
    assert parsed(name, text) == (text.removeprefix("<|python_tag|>"), [], "length")


@pytest.mark.parametrize("text", ['{"a": 1}', '{"name": "Ann", "age": 3}', '{"name": "", "parameters": {}}', "[1]"])
def test_other_json_is_what_the_assistant_says(text) -> None:
    assert parsed("llama3_1", f"{text}<|eot_id|>") == (text, [], "stop")


def test_llama_3_takes_calls_for_text() -> None:
    assert parsed("llama3", '{"name": "f", "parameters": {}}<|eot_id|>')[1:] == ([], "stop")


def test_a_message_that_awaits_a_result_is_a_place_to_stop() -> None:
    names = {name: made_renderer(name).stop_sequences for name in ("llama3", "llama3_1")}
    texts = {name: [made_renderer(name).tokenizer.token_text(token) for token in ids] for name, ids in names.items()}
    assert texts == {"llama3": ["<|eot_id|>"], "llama3_1": ["<|eot_id|>", "<|eom_id|>"]}


@WITH_CALLS
@pytest.mark.parametrize(
    ("messages", "tools", "complaint"),
    [
        ([user("a"), assistant(None, PARIS, PARIS)], (), "one tool at a time"),
        ([user("a"), assistant("Let me see.", PARIS)], (), "no place for text beside the call"),
        ([user("a"), assistant(None, {"function": {"name": "f", "arguments": "[1]"}})], (), "are not an object"),
        ([system("s"), assistant("a")], (WEATHER,), "in the first message by the user"),
        ([user("a"), assistant("b", thinking="c")], (), "no place for reasoning"),
        ([{"role": "developer", "content": "a"}, user("b")], (), "no place for the role developer"),
    ],
)
def test_what_the_template_would_drop_or_refuse_is_refused_with_a_reason(name, messages, tools, complaint) -> None:
    with pytest.raises(RendererError, match=complaint):
        made_renderer(name).build_generation_prompt(messages, tools=tools)


def test_llama_3_refuses_tools_calls_and_results_at_once() -> None:
    with pytest.raises(RendererError) as caught:
        made_renderer("llama3").build_generation_prompt(
            [user("a"), assistant(None, PARIS), result("b", "a1b2c3d4e")], tools=(WEATHER,)
        )
    assert [problem.where for problem in caught.value.problems] == ["tools", "messages[1]", "messages[2]"]


def test_every_turn_of_a_conversation_with_calls_is_trained_in_one_example() -> None:
    messages = [user("a"), assistant(None, PARIS), result("b", "a1b2c3d4e"), assistant("c"), user("d"), assistant("e")]
    made = made_renderer("llama3_1").build_supervised_examples(
        messages, train_on=TrainOn.ALL_ASSISTANT_MESSAGES, tools=(WEATHER,)
    )
    assert [[span.message for span in example.spans] for example in made] == [[1, 3, 5]]


@pytest.mark.parametrize(("built_in", "name"), [("builtin_tools", "llama3_1"), ("false", "llama3_2")])
def test_the_two_that_write_alike_are_told_apart_by_their_templates(built_in, name) -> None:
    plain = made_tokenizer(Llama31Renderer.controls, ())
    files = TokenizerFiles(
        tokenizer_json=plain._backend.to_str(),
        named_tokens={"eos_token": "<|eot_id|>", "bos_token": "<|begin_of_text|>"},
        added_tokens=(),
        templates={"default": LLAMA3_2.replace("BUILT_IN", built_in)},
        eos_ids=frozenset(),
    )
    assert get_renderer("auto", HfTokenizer(files, name="made")).name == name
