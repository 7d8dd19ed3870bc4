"""What parity cannot show of DeepSeek: what is read back, what is refused, what `auto` takes."""

import pytest
from corpus import WEATHER, assistant, call, result, system, user
from made_renderers import made_renderer, made_tokenizer, read

from crucible.errors import RendererError
from crucible.train.renderers import TrainOn, get_renderer
from crucible.train.renderers.deepseek import DeepSeekV3Renderer

END, USER, ASSISTANT = "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"
BEGIN = "<｜begin▁of▁sentence｜>"
OPEN, SHUT = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
PARIS, ROME = call("look", "a1", city="Paris"), call("look", "b2", city="Rome")


def v3_call(arguments, *, kind="function"):
    fenced = f"look\n```json\n{arguments}\n```"
    return f"<｜tool▁call▁begin｜>{kind}<｜tool▁sep｜>{fenced}<｜tool▁call▁end｜>"


def v3_1_call(arguments):
    return f"<｜tool▁call▁begin｜>look<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜>"


def written(name, messages):
    """A conversation as text."""
    renderer = made_renderer(name)
    example = renderer.build_supervised_example(messages, train_on=TrainOn.ALL_TOKENS)
    return renderer.tokenizer.decode(example.tokens.tolist())


@pytest.mark.parametrize(("name", "block"), [("deepseek_v3", v3_call), ("deepseek_v3_1", v3_1_call)])
def test_calls_are_read(name, block) -> None:
    calls = [block(arguments) for arguments in ('{"a": 1}', "{}")]
    text = f"So.{OPEN}{calls[0]}\n{calls[1]}{SHUT}{END}"
    assert read(name, text) == ("", "So.", [("look", {"a": 1}), ("look", {})], "stop")


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("deepseek_v3", OPEN + v3_call("[1]") + SHUT),
        ("deepseek_v3", OPEN + v3_call("{") + SHUT),
        ("deepseek_v3", OPEN + v3_call("{}", kind="program") + SHUT),
        ("deepseek_v3", OPEN + v3_1_call("{}") + SHUT),
        ("deepseek_v3_1", OPEN + v3_call("{}") + SHUT),
        ("deepseek_v3_1", OPEN + v3_1_call("{}")),
        ("deepseek_v3_1", OPEN + v3_1_call("{}") + " and " + v3_1_call("{}") + SHUT),
        ("deepseek_v3_1", OPEN + v3_1_call("{}") + SHUT + "Done."),
        ("deepseek_v3_1", OPEN + SHUT),
        ("deepseek_v3_1", v3_1_call("{}")),
        ("deepseek_v3_1", f"{USER}b"),
        ("deepseek_v3_1", "<think>hm</think>b"),
        ("deepseek_v3_1_thinking", "hm</think>" + OPEN + v3_1_call("{}") + SHUT),
        ("deepseek_v3_1_thinking", "hm</think>a</think>b"),
        ("deepseek_v3_1_thinking", "<think>hm</think>b"),
    ],
)
def test_broken_calls_and_marks_out_of_place_are_malformed(name, block) -> None:
    _, content, calls, ended = read(name, f"a{block}{END}")
    assert (calls, ended) == ([], "malformed")
    assert content


@pytest.mark.parametrize("end", [1, 2, 4, -1])
def test_a_call_that_is_cut_off_is_no_call(end) -> None:
    renderer = made_renderer("deepseek_v3_1")
    ids = renderer.tokenizer.encode(OPEN + v3_1_call('{"a": 1}') + SHUT).ids[:end]
    parsed = renderer.parse_response(ids)
    assert (parsed.ended, "tool_calls" in parsed.message) == ("length", False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"hm\n</think>\n\nYes.{END}", ("hm\n", "\n\nYes.", [], "stop")),
        (f"</think>Yes.{END}", ("", "Yes.", [], "stop")),
        ("hm", ("hm", "", [], "length")),
        ("hm</think>Ye", ("hm", "Ye", [], "length")),
        (f"Yes.{END}", ("", "Yes.", [], "malformed")),
    ],
)
def test_a_response_begins_inside_the_reasoning_that_its_prompt_opens(text, expected) -> None:
    assert read("deepseek_v3_1_thinking", text) == expected


def test_every_call_of_v3_is_closed_and_every_run_of_results_framed() -> None:
    sun = "<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>sun<｜tool▁output▁end｜><｜tool▁outputs▁end｜>"
    turn = assistant("So.", PARIS), result("sun", "a1")
    calls = [v3_call(arguments) for arguments in ('{"city": "Paris"}', '{"city": "Rome"}')]
    made = [f"{OPEN}{one}{SHUT}{END}{sun}" for one in calls]
    talk = [user("a"), *turn, assistant("", ROME), result("sun", "b2"), assistant("b")]
    assert written("deepseek_v3", talk) == f"{BEGIN}{USER}a{ASSISTANT}So.{made[0]}{made[1]}b{END}"


def test_reasoning_is_trained_at_the_end_and_stripped_from_history() -> None:
    talk = [user("a"), assistant("b", thinking="hm"), user("c"), assistant("<think>ho</think>d")]
    examples = made_renderer("deepseek_v3_1_thinking").build_supervised_examples(
        talk, train_on=TrainOn.ALL_ASSISTANT_MESSAGES
    )
    assert [[span.message for span in example.spans] for example in examples] == [[1], [3]]
    shut = f"{BEGIN}{USER}a{ASSISTANT}<think></think>b{END}"
    assert written("deepseek_v3_1_thinking", talk) == f"{shut}{USER}c{ASSISTANT}<think>ho</think>d{END}"


def test_only_the_variant_that_reasons_rewrites_history() -> None:
    names = ("deepseek_v3", "deepseek_v3_1", "deepseek_v3_1_thinking")
    assert [made_renderer(name).has_extension_property for name in names] == [True, True, False]


@pytest.mark.parametrize(
    ("name", "messages", "match"),
    [
        ("deepseek_v3", [user("a"), assistant("b"), system("c"), user("d")], "system message later"),
        ("deepseek_v3", [user("a"), assistant("b", thinking="c"), user("d")], "no place for reasoning"),
        ("deepseek_v3_1", [user("a"), assistant("<think>b</think>c"), user("d")], "no place for reasoning"),
        ("deepseek_v3_1", [user("a"), assistant("", PARIS, ROME), result("b", "b2")], "where that of the call a1"),
        ("deepseek_v3_1_thinking", [user("a"), assistant("", PARIS), user("b")], "no place for tool calls"),
        ("deepseek_v3_1_thinking", [user("a"), assistant("b"), assistant("c"), user("d")], "anything but the user's"),
        ("deepseek_v3_1_thinking", [user("a"), assistant("b")], "nothing but the user's"),
        ("deepseek_v3_1_thinking", [user("a"), assistant("b", thinking="</think>"), user("c")], "inside reasoning"),
    ],
)
def test_what_has_no_place_is_refused(name, messages, match) -> None:
    with pytest.raises(RendererError, match=match):
        made_renderer(name).build_generation_prompt(messages)


@pytest.mark.parametrize("name", ["deepseek_v3", "deepseek_v3_1", "deepseek_v3_1_thinking"])
def test_tools_cannot_be_declared(name) -> None:
    with pytest.raises(RendererError, match="no place for tool declarations"):
        made_renderer(name).build_generation_prompt([user("a")], tools=[WEATHER])


def template(shut, opened):
    """A template of the family's shape, with what it writes after `<｜Assistant｜>` in history and in prompts."""
    return (
        f"{{{{ '{BEGIN}' }}}}{{% for m in messages %}}{{% if m.role == 'user' %}}{{{{ '{USER}' + m.content }}}}"
        f"{{% else %}}{{{{ '{ASSISTANT}{shut}' + m.content + '{END}' }}}}{{% endif %}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{{{{ '{ASSISTANT}' + ({opened}) }}}}{{% endif %}}"
    )


@pytest.mark.parametrize(
    ("shut", "opened", "auto"),
    [
        ("", "''", "deepseek_v3"),
        ("</think>", "'<think>' if thinking else '</think>'", "deepseek_v3_1"),
        ("<think></think>", "'<think>' if thinking else '<think></think>'", "deepseek_v3_1"),
        ("", "'<think>'", "template"),
    ],
)
def test_auto_tells_the_versions_apart(shut, opened, auto) -> None:
    tokenizer = made_tokenizer(DeepSeekV3Renderer.controls, ("<think>", "</think>"), template(shut, opened))
    assert get_renderer("auto", tokenizer).name == auto
    if auto == "deepseek_v3_1":
        (prompt,) = [get_renderer("deepseek_v3_1_thinking", tokenizer).build_generation_prompt([user("a")]).to_ints()]
        assert tokenizer.decode(prompt) == f"{BEGIN}{USER}a{ASSISTANT}<think>"
