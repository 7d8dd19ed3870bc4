"""Does a chat adapter keep the whole contract of its port?"""

import json
from typing import Any

import pytest

from crucible.errors import PortError, UnsupportedError
from crucible.ports.json_schema import misfits
from crucible.ports.llm_client import ChatParams, LLMClient
from crucible.testing.contracts.suite import NotExercised, Suite, needed

WAIT = 120.0
"""Seconds that the suite waits for one answer."""

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Say hello to Ann, in one sentence."}]

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "verdict": {"enum": ["right", "wrong"]},
        "points": {"type": "integer", "minimum": 0, "maximum": 10},
        "reasons": {"type": "array", "items": {"$ref": "#/$defs/reason"}},
    },
    "required": ["verdict", "points", "reasons"],
    "additionalProperties": False,
    "$defs": {"reason": {"type": "string"}},
}


class LLMClientContract(Suite):
    """The contract of `crucible.ports.LLMClient`.

    Fixture that the subclass gives:
        client: the adapter, open.
    """

    @pytest.fixture
    def client(self) -> LLMClient:
        raise needed("client")

    def test_an_answer_is_whole_and_says_who_gave_it(self, client: LLMClient) -> None:
        answer = client.chat(HELLO).result(WAIT)
        assert answer.content
        assert answer.stopped == "stop"
        assert answer.model
        assert answer.structured is None
        assert answer.raw is not None
        if answer.usage is not None:
            assert answer.usage.input_tokens > 0
            assert answer.usage.output_tokens > 0

    async def test_calls_run_side_by_side_and_are_awaited_in_any_order(self, client: LLMClient) -> None:
        answers = [client.chat(HELLO, params=ChatParams(max_tokens=8)) for _ in range(8)]
        assert all([(await answer).content for answer in reversed(answers)])

    def test_what_is_asked_is_what_the_messages_were_at_the_call(self, client: LLMClient) -> None:
        messages = [dict(message) for message in HELLO]
        answers = [client.chat(messages) for _ in range(4)]
        messages[0].clear()
        messages.clear()
        assert all(answer.result(WAIT).content for answer in answers)

    def test_an_answer_is_cut_at_max_tokens(self, client: LLMClient) -> None:
        answer = client.chat(HELLO, params=ChatParams(max_tokens=1)).result(WAIT)
        assert answer.stopped == "length"
        assert answer.usage is None or answer.usage.output_tokens <= 1

    def test_a_stop_text_ends_the_answer_and_is_not_in_it(self, client: LLMClient) -> None:
        answer = client.chat(HELLO, params=ChatParams(stop=["e", "a"])).result(WAIT)
        assert "e" not in answer.content
        assert "a" not in answer.content
        assert answer.stopped == "stop"

    def test_the_same_seed_gives_the_same_answer(self, client: LLMClient, not_exercised: NotExercised) -> None:
        if not client.capabilities().exact:
            not_exercised("answers that repeat: the backend does not promise it")
            return
        first, again, other = (
            client.chat(HELLO, params=ChatParams(seed=seed)).result(WAIT).content for seed in (1, 1, 2)
        )
        assert first == again
        assert first != other

    def test_an_answer_to_a_schema_fits_it(self, client: LLMClient, not_exercised: NotExercised) -> None:
        asked = client.chat([{"role": "user", "content": "Is 2 + 2 = 5?"}], schema=SCHEMA)
        if not client.capabilities().structured:
            not_exercised("answers to a schema: the backend has none")
            with pytest.raises(UnsupportedError):
                asked.result(WAIT)
            return
        answer = asked.result(WAIT)
        assert answer.stopped == "stop"
        assert list(misfits(answer.structured, SCHEMA)) == []
        assert json.loads(answer.content) == answer.structured

    def test_an_answer_to_a_schema_that_was_cut_has_no_structure(
        self, client: LLMClient, not_exercised: NotExercised
    ) -> None:
        if not client.capabilities().structured:
            not_exercised("answers to a schema: the backend has none")
            return
        answer = client.chat(HELLO, params=ChatParams(max_tokens=1), schema=SCHEMA).result(WAIT)
        assert (answer.stopped, answer.structured) == ("length", None)

    async def test_the_pieces_of_a_stream_are_the_answer(self, client: LLMClient) -> None:
        pieces = [piece async for piece in client.stream_chat(HELLO)]
        assert [piece.response is not None for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        response = pieces[-1].response
        assert response is not None
        assert "".join(piece.text for piece in pieces) == response.content != ""
        assert response.stopped == "stop"
        assert response.model

    async def test_a_stream_may_be_left_early(self, client: LLMClient) -> None:
        stream = client.stream_chat(HELLO)
        assert await anext(stream)
        await stream.aclose()
        assert [piece async for piece in client.stream_chat(HELLO)][-1].response is not None

    @pytest.mark.parametrize("messages", [[], [{"role": "user"}], [{"content": "hello"}], [*HELLO, {}]])
    async def test_what_is_no_conversation_is_refused(self, client: LLMClient, messages: list[dict[str, Any]]) -> None:
        with pytest.raises(ValueError):
            await client.chat(messages)
        with pytest.raises(ValueError):
            await anext(client.stream_chat(messages))

    @pytest.mark.parametrize(
        "schema",
        [
            {"type": "string"},
            {"type": "thing"},
            {"type": "object", "properties": {"a": {"$ref": "#/$defs/missing"}}},
        ],
    )
    async def test_a_schema_that_is_wrong_or_of_no_object_is_refused(
        self, client: LLMClient, schema: dict[str, Any], not_exercised: NotExercised
    ) -> None:
        if not client.capabilities().structured:
            not_exercised("answers to a schema: the backend has none")
            return
        with pytest.raises(ValueError):
            await client.chat(HELLO, schema=schema)

    def test_it_may_be_closed_twice_and_then_answers_no_more(self, client: LLMClient) -> None:
        client.close()
        client.close()
        with pytest.raises(PortError) as raised:
            client.chat(HELLO).result(WAIT)
        assert not raised.value.retryable
