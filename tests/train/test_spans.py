"""What a renderer trains is exactly what the model must generate: laws over templates and conversations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crucible.errors import RendererError
from crucible.train.messages import Message
from crucible.train.renderers import RenderedExample, TrainOn

laws = settings(max_examples=40, deadline=None)

EXACT = ["chatml", "llama", "base_chatml", "eos_at_the_end", "no_stop", "plain"]
STOPS = {
    "chatml": "<|im_end|>",
    "base_chatml": "<|im_end|>",  # not in eos_ids here: the turn's last special token
    "llama": "<|eot|>",
    "eos_at_the_end": "<|im_end|>",
    "no_stop": "\n",
    "plain": "\n\nUser:",
}

# White space at the ends is left out here: templates trim it, or a token straddles (tested by themselves).
texts = st.text(alphabet="ab zé\n漢🙂.:#", max_size=24).map(lambda text: text.strip() or "a")


@st.composite
def conversations(draw: st.DrawFn, turns: int = 3) -> list[Message]:
    messages = [Message(role="system", content=draw(texts))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, turns))):
        messages += [Message(role="user", content=draw(texts)), Message(role="assistant", content=draw(texts))]
    return messages


def trained_texts(example: RenderedExample, tokenizer) -> list[str]:
    return [tokenizer.decode(example.tokens[span.start : span.end].tolist()) for span in example.spans]


@pytest.mark.parametrize("name", EXACT)
@laws
@given(messages=conversations())
def test_spans_are_the_assistants_texts_with_their_end_of_turn(name, renderers, messages) -> None:
    renderer = renderers[name]
    example = renderer.build_supervised_example(messages, train_on=TrainOn.ALL_ASSISTANT_MESSAGES)
    lead = " " if name == "plain" else ""
    answers = [lead + m["content"] + STOPS[name] for m in messages if m["role"] == "assistant"]
    assert trained_texts(example, renderer.tokenizer) == answers


@pytest.mark.parametrize("name", EXACT)
@laws
@given(messages=conversations())
def test_weights_are_one_inside_the_spans_and_zero_elsewhere(name, renderers, messages) -> None:
    example = renderers[name].build_supervised_example(messages, train_on=TrainOn.ALL_ASSISTANT_MESSAGES)
    inside = np.zeros(len(example.tokens), dtype=np.float32)
    for span in example.spans:
        inside[span.start : span.end] = 1
    np.testing.assert_array_equal(example.weights, inside)


@pytest.mark.parametrize("name", [name for name in EXACT if name != "plain"])
@laws
@given(messages=conversations())
def test_the_tokens_are_those_of_the_text_that_the_template_writes(name, renderers, messages) -> None:
    renderer = renderers[name]
    example = renderer.build_supervised_example(messages, train_on=TrainOn.ALL_ASSISTANT_MESSAGES)
    text = renderer.tokenizer.apply_chat_template(messages)
    assert example.tokens.tolist() == list(renderer.tokenizer.encode(text).ids)


@pytest.mark.parametrize("name", EXACT)
@laws
@given(messages=conversations())
def test_the_tokens_before_a_span_are_the_generation_prompt(name, renderers, messages) -> None:
    renderer = renderers[name]
    example = renderer.build_supervised_example(messages, train_on=TrainOn.ALL_ASSISTANT_MESSAGES)
    for span in example.spans:
        prompt = renderer.build_generation_prompt(messages[: span.message])
        assert prompt.to_ints() == example.tokens[: span.start].tolist()


@pytest.mark.parametrize("name", [*EXACT, "thinking"])
@laws
@given(messages=conversations(turns=1))
def test_parsing_a_trained_turn_gives_the_message_back(name, renderers, messages) -> None:
    renderer = renderers[name]
    example = renderer.build_supervised_example(messages, train_on=TrainOn.LAST_ASSISTANT_MESSAGE)
    span = example.spans[-1]
    parsed = renderer.parse_response(example.tokens[span.start : span.end].tolist())
    assert parsed.message == messages[-1]
    assert parsed.ended == ("length" if name == "no_stop" else "stop")


@pytest.mark.parametrize("name", ["chatml", "no_stop", "llama", "plain"])
@laws
@given(content=st.text(alphabet="ab \n:", max_size=12))
def test_white_space_at_an_answers_ends_is_trained_or_refused_but_never_half_masked(name, renderers, content) -> None:
    renderer = renderers[name]
    messages = [Message(role="user", content="hi"), Message(role="assistant", content=content)]
    try:
        example = renderer.build_supervised_example(messages, train_on=TrainOn.LAST_ASSISTANT_MESSAGE)
    except RendererError:
        return
    (answer,) = trained_texts(example, renderer.tokenizer)
    assert (content.strip() if name == "llama" else content) in answer


def test_bos_is_written_exactly_once(renderers) -> None:
    messages = [Message(role="user", content="hi"), Message(role="assistant", content="hello")]
    for name in ("llama", "plain"):
        example = renderers[name].build_supervised_example(messages, train_on=TrainOn.ALL_TOKENS)
        assert example.tokens.tolist().count(renderers[name].tokenizer.bos_id) == 1


def test_a_turn_without_an_end_of_turn_token_is_counted(renderers) -> None:
    messages = [Message(role="user", content="hi"), Message(role="assistant", content="hello")]
    counts = {
        name: renderers[name].build_supervised_example(messages, train_on=TrainOn.ALL_MESSAGES).ends_without_stop
        for name in ("chatml", "no_stop")
    }
    assert counts == {"chatml": 0, "no_stop": 2}


def test_a_template_that_opens_the_reasoning_trains_the_empty_block(renderers) -> None:
    messages = [Message(role="user", content="hi"), Message(role="assistant", content="hello")]
    example = renderers["thinking"].build_supervised_example(messages, train_on=TrainOn.LAST_ASSISTANT_MESSAGE)
    assert trained_texts(example, renderers["thinking"].tokenizer) == ["<think>\n\n</think>\n\nhello<|im_end|>"]
