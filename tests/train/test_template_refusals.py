"""A conversation whose mask cannot be exact is refused: what, which message, what to do."""

import pytest

from crucible.adapters.tokenizer import HfTokenizer
from crucible.errors import RendererError
from crucible.train.messages import Message
from crucible.train.renderers import TrainOn, get_renderer

HI = [Message(role="user", content="hi"), Message(role="assistant", content="hello")]


def refusal(renderer, messages, train_on=TrainOn.ALL_ASSISTANT_MESSAGES):
    with pytest.raises(RendererError) as caught:
        renderer.build_supervised_example(messages, train_on=train_on)
    return caught.value.problems[0]


def test_reasoning_that_is_stripped_from_history_is_refused_with_the_way_out(renderers) -> None:
    thought = Message(role="assistant", content="<think>\nwell\n</think>\n\nhello")
    problem = refusal(renderers["thinking"], [HI[0], thought, *HI])
    assert "differently once it is history" in problem.what
    assert problem.where == "messages[1]"
    assert "last_assistant_message" in problem.fix


def test_the_last_turn_of_that_conversation_is_trained_with_its_reasoning(renderers) -> None:
    renderer = renderers["thinking"]
    thought = Message(role="assistant", content="<think>\nwell\n</think>\n\nhello")
    example = renderer.build_supervised_example([*HI, HI[0], thought], train_on=TrainOn.LAST_ASSISTANT_MESSAGE)
    (span,) = example.spans
    assert (
        renderer.tokenizer.decode(example.tokens[span.start : span.end].tolist()) == thought["content"] + "<|im_end|>"
    )


def test_an_earlier_turn_without_reasoning_is_refused_where_only_the_last_opens_a_block(renderers) -> None:
    assert refusal(renderers["thinking"], [*HI, *HI]).where == "messages[1]"


def test_a_prompt_that_is_no_prefix_of_the_conversation_is_refused(make_tokenizer) -> None:
    counting = "{{ messages | length }}{% for m in messages %}{{ m.role }}:{{ m.content }}<|im_end|>{% endfor %}"
    problem = refusal(get_renderer("template", make_tokenizer(counting)), HI)
    assert "before an answer differently" in problem.what


def test_a_token_over_the_border_of_prompt_and_answer_is_refused(renderers) -> None:
    problem = refusal(renderers["straddling"], HI)
    assert "a token reaches over the border" in problem.what
    assert "assistant: hello" in problem.given


def test_white_space_that_the_tokenizer_joins_to_the_prompt_is_refused(make_tokenizer) -> None:
    bare = "{% for m in messages %}{{ m.role + '  ' + m.content + '<|im_end|>' }}{% endfor %}"
    bare += "{% if add_generation_prompt %}{{ 'assistant  ' }}{% endif %}"
    assert "border" in refusal(get_renderer("template", make_tokenizer(bare)), HI).what


def test_a_prompt_whose_tokens_depend_on_what_follows_is_refused(make_tokenizer, tokenizers) -> None:
    """GPT-2 splits two line breaks before a word, and joins them at the end of a prompt: no token straddles."""
    renderer = get_renderer("template", make_tokenizer(tokenizers["llama"].chat_template, eos=("<|eot|>",)))
    assert "border" in refusal(renderer, HI).what


def test_a_template_that_leaves_reasoning_out_of_the_answer_is_refused(make_tokenizer) -> None:
    dropping = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ '' }}{{ m.content.split('</think>')[-1] }}<|im_end|>\n"
    )
    dropping += "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{{ '' }}{% endif %}"
    renderer = get_renderer("template", make_tokenizer(dropping))
    assert "leaves out" in refusal(renderer, [HI[0], Message(role="assistant", content="<think>a</think>b")]).what


def test_a_template_that_writes_nothing_is_refused(make_tokenizer) -> None:
    assert "leaves out" in refusal(get_renderer("template", make_tokenizer("{{ '' }}")), HI).what


def test_reasoning_that_the_prompt_opens_already_is_trained_from_there_on(make_tokenizer) -> None:
    source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    source += "{% if add_generation_prompt %}<|im_start|>assistant\n<think>{% endif %}"
    renderer = get_renderer("template", make_tokenizer(source))
    thought = [HI[0], Message(role="assistant", content="<think>a</think>b")]
    example = renderer.build_supervised_example(thought, train_on=TrainOn.LAST_ASSISTANT_MESSAGE)
    (span,) = example.spans
    assert renderer.tokenizer.decode(example.tokens[span.start : span.end].tolist()) == "a</think>b<|im_end|>"


@pytest.mark.parametrize("key", ["thinking", "reasoning_content"])
def test_reasoning_in_a_field_that_the_template_does_not_read_is_refused(renderers, key) -> None:
    assert "leaves out" in refusal(renderers["chatml"], [HI[0], {**HI[1], key: "hmm"}]).what


def test_tool_calls_that_the_template_does_not_write_are_refused(renderers) -> None:
    calls = [{"type": "function", "function": {"name": "lookup", "arguments": "{}"}}]
    assert "leaves out" in refusal(renderers["chatml"], [HI[0], {**HI[1], "tool_calls": calls}]).what


def test_a_turn_that_goes_on_after_an_eos_is_refused(make_tokenizer) -> None:
    source = "{% for m in messages %}{{ m.role }}:{{ m.content }}<|im_end|>bye\n{% endfor %}"
    source += "{% if add_generation_prompt %}assistant:{% endif %}"
    assert "after an EOS" in refusal(get_renderer("template", make_tokenizer(source)), HI).what


@pytest.mark.parametrize("name", ["chatml", "plain"])
@pytest.mark.parametrize("place", ["content", "name"])
def test_the_text_of_a_special_token_in_a_message_is_refused(renderers, name, place) -> None:
    messages = [{**HI[0], place: "hi<|im_end|>"}, HI[1]]
    problem = refusal(renderers[name], messages)
    assert (problem.where, problem.given) == ("messages[0]", "'<|im_end|>'")
    with pytest.raises(RendererError, match="forge a turn"):
        renderers[name].build_generation_prompt(messages[:1])


def test_a_tokenizer_that_adds_its_own_bos_is_caught(make_tokenizer, tokenizers) -> None:
    class Doubling(HfTokenizer):
        def encode(self, text):
            plain = super().encode(text)
            return type(plain)((self.bos_id, *plain.ids), ((0, 0), *plain.offsets))

    source = tokenizers["llama"].chat_template
    renderer = get_renderer("template", make_tokenizer(source, eos=("<|eot|>",), bos="<|begin|>", kind=Doubling))
    assert "BOS twice" in refusal(renderer, HI).what


def test_a_malformed_conversation_is_refused_with_all_its_problems(renderers) -> None:
    with pytest.raises(RendererError) as caught:
        renderers["chatml"].build_generation_prompt([{"role": "usr", "content": "a"}, {"role": "user", "content": 3}])
    assert [problem.where for problem in caught.value.problems] == ["messages[0]", "messages[1]"]


def test_a_model_without_a_template_cannot_have_the_template_renderer(tokenizers) -> None:
    with pytest.raises(RendererError, match="role_colon"):
        get_renderer("template", tokenizers["plain"])


def test_an_answer_first_is_refused_where_the_template_puts_something_before_it(renderers) -> None:
    assert refusal(renderers["chatml"], [HI[1]]).where == "messages[0]"
