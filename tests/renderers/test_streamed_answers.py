"""Is what a streamed answer tells before its end always how the answer begins, in every family?"""

import pytest
from corpus import WEATHER, Conversation, assistant, call, user
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from made_renderers import KINDS, conversations, made_renderer
from test_laws import answers, generated

from crucible.errors import RendererError
from crucible.ports.sampling_client import SampledSequence
from crucible.server.openai_chat import certain_texts, choice_json
from crucible.server.openai_models import Voice
from crucible.server.openai_requests import ChatRequest
from crucible.server.openai_texts import before_stop
from crucible.testing.fakes import FakeTokenizer
from crucible.train.renderers import get_renderer
from crucible.train.renderers.certain import certain_text

laws = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
PARTS = st.sampled_from(
    [
        "a",
        " b",
        "\n",
        "<",
        "<t",
        "<think>",
        "</think>",
        "<tool_call>",
        "{",
        "}",
        "[",
        "[TOOL",
        "é",
        "🙂",
        "stop",
        "st",
        "|>",
    ]
)


def told(voice: Voice, tokens: list[int], stops: tuple[str, ...] = ()) -> dict[str, str]:
    """The texts of the whole answer."""
    asked = ChatRequest(model="m", messages=[], stop=list(stops))
    sequence = SampledSequence(tokens=tuple(tokens), logprobs=(0.0,) * len(tokens), stop_reason="stop")
    message = choice_json(0, sequence, voice, asked)["message"]
    return {name: message.get(name) or "" for name in ("content", "reasoning_content")}


def assert_grows(voice: Voice, tokens: list[int], stops: tuple[str, ...] = ()) -> None:
    whole = told(voice, tokens, stops)
    for end in range(len(tokens) + 1):
        for name, text in certain_texts(voice.renderer, stops, tokens[:end]).items():
            unclosed = name == "reasoning_content" and not whole[name]  # it is content then
            assert unclosed or whole[name].startswith(text), (name, text, whole)


@pytest.mark.parametrize("name", KINDS)
@laws
@given(data=st.data())
def test_what_is_told_of_a_familys_answer_is_how_it_begins(name: str, data: st.DataObject) -> None:
    renderer, talk = made_renderer(name), data.draw(conversations(name))
    voice = Voice(tokenizer=renderer.tokenizer, renderer=renderer)
    for index in answers(talk):
        try:
            tokens = generated(renderer, talk, index)
        except RendererError:
            reject()
        assert_grows(voice, tokens)
        assert_grows(voice, tokens, stops=("ab", " "))


@pytest.mark.parametrize("name", KINDS)
@laws
@given(parts=st.lists(PARTS, max_size=12), ended=st.booleans())
def test_what_is_told_of_any_text_is_how_it_begins(name: str, parts: list[str], ended: bool) -> None:
    renderer = made_renderer(name)
    voice = Voice(tokenizer=renderer.tokenizer, renderer=renderer)
    tokens = list(renderer.tokenizer.encode("".join(parts)).ids) + [renderer.stop_sequences[0]] * ended
    assert_grows(voice, tokens)
    assert_grows(voice, tokens, stops=("stop", "a b"))


@laws
@given(parts=st.lists(st.sampled_from([*"abc \n", "\n\n", "User", ":", "Assistant:"]), max_size=12))
def test_what_is_told_of_a_transcripts_answer_is_how_it_begins(parts: list[str]) -> None:
    tokenizer = FakeTokenizer()
    voice = Voice(tokenizer=tokenizer, renderer=get_renderer("role_colon", tokenizer))
    assert_grows(voice, list(tokenizer.encode("".join(parts)).ids))


@pytest.mark.parametrize("name", ["qwen3", "smollm2", "llama3_1", "gpt_oss"])
def test_most_of_a_plain_answer_is_told_before_its_end(name: str) -> None:
    renderer = made_renderer(name)
    voice = Voice(tokenizer=renderer.tokenizer, renderer=renderer)
    talk = Conversation(messages=(user("a"), assistant("2 < 3 and [4] are fine; so is this, at some length.")))
    tokens = generated(renderer, talk, 1)
    assert len(certain_texts(voice.renderer, (), tokens[:-4])["content"]) > 20


def test_a_call_is_told_when_it_is_whole() -> None:
    renderer = made_renderer("qwen3")
    voice = Voice(tokenizer=renderer.tokenizer, renderer=renderer)
    talk = Conversation(
        messages=(user("a"), assistant("I look.", call("get_weather", "a1", city="x"))), tools=(WEATHER,)
    )
    tokens = generated(renderer, talk, 1)
    texts = {certain_texts(voice.renderer, (), tokens[:end]).get("content", "") for end in range(len(tokens))}
    assert max(texts, key=len) == "I look."


@given(parts=st.lists(PARTS, max_size=12), more=st.lists(PARTS, max_size=6))
def test_certain_text_is_how_every_longer_text_begins(parts: list[str], more: list[str]) -> None:
    stops = ("stop", "a b", "<t")
    begun, whole = "".join(parts), "".join([*parts, *more])
    assert before_stop(whole, stops)[0].startswith(certain_text(begun, stops))
