"""How does one talk to the weights that a run left?"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crucible.ports import SamplingClient
from crucible.ports.sampling_client import SamplingParams, SamplingSession
from crucible.runtime.finished import FinishedRun
from crucible.runtime.wiring import Wiring
from crucible.train.messages import Message
from crucible.train.renderers import ParsedResponse, Renderer, get_renderer
from crucible.train.renderers.certain import certain_message

_SECONDS_BETWEEN = 0.05


@dataclass(frozen=True, kw_only=True)
class Partner:
    """Fixed weights to talk to, and how their conversations are written."""

    sampling: SamplingClient
    session: SamplingSession
    renderer: Renderer

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int = 256,
        temperature: float = 0.7,
        top_p: float = 1.0,
        seed: int | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> ParsedResponse:
        """The next assistant message; with a seed, the same one each time.

        on_text: told now and then, while it is drawn, of its content as far as that is certain, where the backend tells
            of its tokens.

        Raises:
            ValueError: if the conversation plus max_tokens exceeds the model's context.
        """
        params = SamplingParams(
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            stop=self.renderer.stop_sequences,
        )
        prompt = self.renderer.build_generation_prompt(messages)
        if on_text is None or not self.sampling.capabilities().streams:
            response = await self.sampling.sample(self.session, prompt, params=params)
            return self.renderer.parse_response(response.sequences[0].tokens)
        drawn: list[int] = []
        asked = self.sampling.sample(self.session, prompt, params=params, on_token=lambda _, token: drawn.append(token))
        told = 0
        while not asked.done():
            if len(drawn) > told:
                told = len(drawn)
                on_text(certain_message(self.renderer, drawn[:told])[1])
            await asyncio.sleep(_SECONDS_BETWEEN)
        return self.renderer.parse_response((await asked).sequences[0].tokens)

    async def leave(self) -> None:
        """Free the weights."""
        await self.sampling.close_session(self.session)


async def meet(run: FinishedRun, wiring: Wiring, *, base: bool = False) -> Partner:
    """The run's trained model, as at `run.sampler_path`; with `base`, the model it started from.

    Raises:
        CheckpointError: if the run saved no weights, or they are damaged.
    """
    sampling = wiring.port("sampling_client")
    assert isinstance(sampling, SamplingClient)
    if base:
        session = await sampling.start_session(base_model=run.model)
    else:
        session = await sampling.start_session(base_model=run.model, model_path=run.sampler_path)
    renderer = get_renderer(str(run.config.get("renderer", "auto")), sampling.get_tokenizer(session))
    return Partner(sampling=sampling, session=session, renderer=renderer)
