"""What does the renderer of Kimi K2 write, read and refuse, and what does it take to be given it?"""

import pytest
from corpus import assistant, call, result, system, user
from made_renderers import made_renderer, made_tokenizer, read

from crucible.errors import RendererError
from crucible.train.renderers import TrainOn, get_renderer
from crucible.train.renderers.kimi import KimiK2UnverifiedRenderer

OPEN, SHUT = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
PARIS, ROME = call("look", "a1", city="Paris"), call("look", "b2", city="Rome")


def one_call(ident, arguments):
    return f"<|tool_call_begin|>{ident}<|tool_call_argument_begin|>{arguments}<|tool_call_end|>"


def written(messages, tools=()):
    """A conversation as text."""
    renderer = made_renderer("kimi_k2_unverified")
    example = renderer.build_supervised_example(messages, train_on=TrainOn.ALL_TOKENS, tools=tools)
    return renderer.tokenizer.decode(example.tokens.tolist())


def test_the_name_alone_is_refused_with_the_reason_and_the_way_round() -> None:
    tokenizer = made_renderer("kimi_k2_unverified").tokenizer
    with pytest.raises(RendererError, match=r"never compared.*no tokenizer.*renderer=kimi_k2_unverified"):
        get_renderer("kimi_k2", tokenizer)
    assert get_renderer("kimi_k2_unverified", tokenizer).verified is False


TEMPLATE = (
    "{% for m in messages %}{% if loop.first %}{{ '<|im_system|>system<|im_middle|>SYSTEM<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_' + m.role + '|>' + m.role + '<|im_middle|>' + m.content + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_assistant|>assistant<|im_middle|>' }}{% endif %}"
)


def test_auto_never_takes_it_and_another_version_of_the_template_is_noticed() -> None:
    controls = KimiK2UnverifiedRenderer.controls
    own = TEMPLATE.replace("SYSTEM", "You are Kimi, an AI assistant created by Moonshot AI.")
    fits, differs = (made_tokenizer(controls, (), text) for text in (own, TEMPLATE))
    assert get_renderer("auto", fits).name == "template"
    assert get_renderer("kimi_k2_unverified", fits).name == "kimi_k2_unverified"
    with pytest.raises(RendererError, match="does not fit this model"):
        get_renderer("kimi_k2_unverified", differs)


def test_it_writes_what_its_template_reads_like() -> None:
    talk = [user("a"), assistant("So.", PARIS, ROME), result("sun", "a1"), result("rain", "b2"), assistant("b")]
    calls = one_call("functions.look:0", '{"city": "Paris"}') + one_call("functions.look:1", '{"city": "Rome"}')
    assert written(talk, [{"name": "look"}]) == (
        '<|im_system|>tool_declare<|im_middle|>[{"name": "look"}]<|im_end|>'
        "<|im_system|>system<|im_middle|>You are Kimi, an AI assistant created by Moonshot AI.<|im_end|>\n"
        f"<|im_user|>user<|im_middle|>a<|im_end|><|im_assistant|>assistant<|im_middle|>So.{OPEN}{calls}{SHUT}<|im_end|>"
        "<|im_system|>get_weather<|im_middle|>## Return of functions.look:0\nsun<|im_end|>"
        "<|im_system|>get_weather<|im_middle|>## Return of functions.look:1\nrain<|im_end|>"
        "<|im_assistant|>assistant<|im_middle|>b<|im_end|>"
    )


def test_calls_are_counted_through_the_conversation_and_names_stand_in_the_headers() -> None:
    turn = [assistant("", PARIS), result("sun", "a1")]
    text = written([system("s"), {**user("a"), "name": "Zoë"}, *turn, *turn, assistant("b")])
    assert text.startswith("<|im_system|>system<|im_middle|>s<|im_end|><|im_user|>Zoë<|im_middle|>a<|im_end|>")
    assert text.count("functions.look:0") == text.count("functions.look:1") == 2


def test_calls_are_read() -> None:
    calls = one_call("functions.look:0", '{"a": 1}') + one_call(" functions.f.g:12 ", " {} ")
    text = f"So.{OPEN}{calls}{SHUT}<|im_end|>"
    assert read("kimi_k2_unverified", text) == ("", "So.", [("look", {"a": 1}), ("f.g", {})], "stop")


@pytest.mark.parametrize(
    "text",
    [
        OPEN + one_call("look", "{}") + SHUT,
        OPEN + one_call("functions.look:0", "{") + SHUT,
        OPEN + one_call("functions.look:0", "{}"),
        OPEN + one_call("functions.look:0", "{}") + SHUT + "Done.",
        "a<|im_user|>user<|im_middle|>b",
    ],
)
def test_broken_calls_and_marks_out_of_place_are_malformed_and_stay_text(text) -> None:
    assert read("kimi_k2_unverified", f"{text}<|im_end|>") == ("", text, [], "malformed")


@pytest.mark.parametrize(
    ("messages", "match"),
    [
        ([user("a"), result("b", "a1")], "answers no call"),
        ([user("a"), assistant("", PARIS, ROME), result("b", "b2")], "where that of the call a1"),
        ([user("a"), {**assistant("b"), "name": "Kim"}, user("c")], "with a name"),
        ([user("a"), assistant("b", thinking="c"), user("d")], "no place for reasoning"),
    ],
)
def test_what_has_no_place_is_refused(messages, match) -> None:
    with pytest.raises(RendererError, match=match):
        made_renderer("kimi_k2_unverified").build_generation_prompt(messages)
