"""Which of OpenAI's routes are there? Models, chat completions and completions, over base models and saved adapters."""

import asyncio
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crucible.ports.sampling_client import SamplingParams
from crucible.ports.tokenizer import Tokenizer
from crucible.server import openai_chat, openai_texts
from crucible.server.live import Live
from crucible.server.openai_chat import chat_choices, chat_prompt
from crucible.server.openai_errors import OpenAiError, openai_answered
from crucible.server.openai_growing import Growing, Texts
from crucible.server.openai_models import NamedModel, OpenAiModels
from crucible.server.openai_requests import ChatRequest, CompletionRequest, read_request
from crucible.server.openai_stream import ChatEvents, Events, TextEvents, streamed
from crucible.server.openai_texts import completion_choices, completion_prompts

_MOST_LISTED = 1000
_COMPLETION_TOKENS = 16  # OpenAI's own default for a completion


def routes(live: Live) -> list[Route]:
    """The routes below `/v1`, without that prefix. They need `request.state.owner`."""
    openai = _OpenAi(live)
    return [
        Route("/models", openai_answered(openai.list_models)),
        Route("/models/{model:path}", openai_answered(openai.get_model)),
        Route("/chat/completions", openai_answered(openai.chat), methods=["POST"]),
        Route("/completions", openai_answered(openai.complete), methods=["POST"]),
    ]


class _OpenAi:
    """The handlers; one object, so that they share the models' names."""

    def __init__(self, live: Live) -> None:
        self._live, self._served, self._models = live, live.served, OpenAiModels(live)
        self._started = int(live.served.clock())

    async def list_models(self, request: Request) -> Response:
        """GET /models: base models, and the caller's sampler weights."""
        owner: str = request.state.owner
        page = await asyncio.to_thread(self._served.store.checkpoints, owner=owner, limit=_MOST_LISTED)
        saved = [record for record in page.items if record.kind == "sampler_weights"]
        listed = [_model_json(name, created=self._started, owner="crucible") for name in self._served.models]
        listed += [_model_json(one.tinker_path, created=int(one.created_at), owner=owner) for one in saved]
        return JSONResponse({"object": "list", "data": listed})

    async def get_model(self, request: Request) -> Response:
        """GET /models/{model}"""
        name: str = request.path_params["model"]
        found = await asyncio.to_thread(self._models.find, name, owner=request.state.owner)
        created = self._started if found.checkpoint is None else int(found.checkpoint.created_at)
        owner = "crucible" if found.checkpoint is None else found.checkpoint.owner
        return JSONResponse(_model_json(name, created=created, owner=owner))

    async def chat(self, request: Request) -> Response:
        """POST /chat/completions"""
        asked = await read_request(request, ChatRequest, self._served.limits)
        model = await asyncio.to_thread(self._models.find, asked.model, owner=request.state.owner)
        voice = await self._models.voice(model)
        prompt = await asyncio.to_thread(chat_prompt, voice.renderer, asked)
        most = self._max_tokens(
            asked.max_completion_tokens or asked.max_tokens, self._served.limits.max_chat_tokens, prompt, model
        )
        stop = _stops(asked.stops, voice.renderer.stop_sequences, voice.tokenizer)
        params = _params(asked, max_tokens=most, stop=stop)

        head = self._head("chat.completion", "chatcmpl", asked.model)
        growing = self._growing(
            partial(openai_chat.certain_texts, voice.renderer, asked.stops), asked, whole=bool(asked.logprobs)
        )

        async def answer() -> dict[str, Any]:
            with self._counted(asked.n or 1):
                choices, usage, digest = await chat_choices(
                    self._served.sampling, self._models.session(model), voice, prompt, asked, params, growing.on_token()
                )
            self._count(usage)
            return _whole(head, choices, usage, digest)

        return await _answered(asked, answer, growing, ChatEvents(head, include_usage=_usage_asked(asked)))

    async def complete(self, request: Request) -> Response:
        """POST /completions"""
        asked = await read_request(request, CompletionRequest, self._served.limits)
        model = await asyncio.to_thread(self._models.find, asked.model, owner=request.state.owner)
        tokenizer = (await self._models.voice(model)).tokenizer
        prompts = await asyncio.to_thread(completion_prompts, tokenizer, asked)
        stop = None if not asked.stops else _stops(asked.stops, sorted(tokenizer.eos_ids), tokenizer)
        asked_tokens = _COMPLETION_TOKENS if asked.max_tokens is None else asked.max_tokens
        params = _params(asked, max_tokens=max(1, asked_tokens), stop=stop)
        if asked_tokens == 0 and not asked.echo:
            raise OpenAiError(400, "max_tokens: 0 asks for nothing, unless with echo", param="max_tokens")

        head = self._head("text_completion", "cmpl", asked.model)
        whole = bool(asked.echo) or asked.logprobs is not None or asked_tokens == 0
        growing = self._growing(partial(openai_texts.certain_texts, tokenizer, asked.stops), asked, whole=whole)

        async def answer() -> dict[str, Any]:
            with self._counted((asked.n or 1) * len(prompts)):
                choices, usage, digest = await completion_choices(
                    self._served.sampling,
                    self._models.session(model),
                    tokenizer,
                    prompts,
                    asked,
                    params,
                    growing.on_token,
                )
            self._count(usage)
            return _whole(head, choices, usage, digest)

        return await _answered(asked, answer, growing, TextEvents(head, include_usage=_usage_asked(asked)))

    def _max_tokens(self, asked: int | None, default: int, prompt: Sequence[int], model: NamedModel) -> int:
        """What was asked for; else the default, or what the context has room for if that is less."""
        if asked:
            return asked
        facts = self._served.training.model_facts(model.reference)
        if facts is None or facts.context_length is None:
            return default
        return max(1, min(default, facts.context_length - len(prompt)))

    @contextmanager
    def _counted(self, samples: int) -> Generator[None]:
        limits = self._served.limits
        if samples > limits.max_samples:
            raise OpenAiError(400, f"at most {limits.max_samples} completions can be asked for at once", param="n")
        if self._live.waiting_samples and self._live.waiting_samples + samples > limits.max_waiting_samples:
            raise OpenAiError(429, "too many completions wait already; try again", code="rate_limit_exceeded")
        self._live.waiting_samples += samples
        try:
            yield
        finally:
            self._live.waiting_samples -= samples

    def _count(self, usage: Mapping[str, int]) -> None:
        self._served.meters.tokens_prompted += usage["prompt_tokens"]
        self._served.meters.tokens_sampled += usage["completion_tokens"]

    def _growing(
        self, read: Callable[[Sequence[int]], Texts], asked: ChatRequest | CompletionRequest, *, whole: bool
    ) -> Growing:
        """whole: whether what is asked for is told at the end alone."""
        streams = bool(asked.stream) and not whole and self._served.sampling.capabilities().streams
        return Growing(read, streams=streams)

    def _head(self, kind: str, prefix: str, model: str) -> dict[str, Any]:
        return {
            "id": f"{prefix}-{uuid4().hex}",
            "object": kind,
            "created": int(self._served.clock()),
            "model": model,
            "system_fingerprint": None,
        }


def _whole(head: Mapping[str, Any], choices: Sequence[Any], usage: Mapping[str, int], digest: str) -> dict[str, Any]:
    return {
        **head,
        "system_fingerprint": f"fp_{digest[:12]}" if digest else None,
        "choices": choices,
        "usage": usage,
    }


def _usage_asked(asked: ChatRequest | CompletionRequest) -> bool:
    return asked.stream_options is not None and asked.stream_options.include_usage


async def _answered(
    asked: ChatRequest | CompletionRequest,
    answer: Callable[[], Coroutine[Any, Any, dict[str, Any]]],
    growing: Growing,
    events: Events,
) -> Response:
    if not asked.stream:
        return JSONResponse(await answer())
    return streamed(answer(), growing=growing, events=events)


def _params(asked: ChatRequest | CompletionRequest, *, max_tokens: int, stop: Any) -> SamplingParams:
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        top_k=-1 if not asked.top_k else asked.top_k,
        seed=asked.seed,
        stop=stop,
    )


def _stops(asked: Sequence[str], own: Sequence[str] | Sequence[int], tokenizer: Tokenizer) -> list[str] | list[int]:
    """What the client asked for beside the model's own ends. Texts and ids cannot be mixed, so ids become their texts
    where there are both."""
    ids = [end for end in own if isinstance(end, int)]
    if not asked and ids:
        return ids
    return [*asked, *(end if isinstance(end, str) else tokenizer.decode([end]) for end in own)]


def _model_json(name: str, *, created: int, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": owner}
