# pyright: standard
# (hands torch tensors between the engine's parts)
"""How do requests on several base models share the engine's time for sampling?

Synchronous: only the engine's thread calls it, but for `statistics`.
"""

import concurrent.futures
import logging
import math
from collections import OrderedDict
from collections.abc import Callable
from weakref import WeakKeyDictionary

from transformers import PreTrainedModel

from crucible.engine.decoding import SlotDecoder
from crucible.engine.decoding_probe import Prepared, prepare
from crucible.engine.decoding_request import DecodeRequest
from crucible.engine.model import LoadedModel
from crucible.engine.options import EngineOptions
from crucible.engine.weights import OpenWeights
from crucible.ports.datum import ModelInput
from crucible.ports.sampling_client import OnToken, SampleReport, SampleResponse, SamplingParams
from crucible.ports.tokenizer import Tokenizer

_LOG = logging.getLogger("crucible")
_PROMPT_ALONE = SamplingParams(max_tokens=1, seed=0, stop=[])


class Sampler:
    """Requests, decoded unit by unit. A request keeps its weights until it is done, whatever becomes of its session."""

    def __init__(self, options: EngineOptions, *, room: Callable[[], float] = lambda: math.inf) -> None:
        """room: bytes that more keys and values may take."""
        self._options, self._room = options, room
        self._prepared: WeakKeyDictionary[PreTrainedModel, Prepared] = WeakKeyDictionary()
        self._decoders: OrderedDict[int, SlotDecoder] = OrderedDict()  # of the models that have requests, by id

    def submit(
        self,
        weights: OpenWeights,
        prompt: ModelInput,
        *,
        params: SamplingParams,
        num_samples: int,
        tokenizer: Tokenizer,
        prompt_logprobs: bool,
        report: SampleReport | None = None,
        on_token: OnToken | None = None,
    ) -> "concurrent.futures.Future[SampleResponse]":
        """Queue a request.

        Raises:
            ValueError: as `SamplingClient.sample` has it.
        """
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, not {num_samples}")
        request = DecodeRequest(
            prompt=tuple(prompt.to_ints()),
            params=params,
            num_samples=num_samples,
            tokenizer=tokenizer,
            adapter=weights.adapter,
            provenance=weights.session.provenance(params),
            prompt_logprobs=prompt_logprobs,
            report=report or SampleReport(),
            on_token=on_token,
        )
        return self._add(weights.loaded, request)

    def submit_logprobs(
        self, weights: OpenWeights, prompt: ModelInput
    ) -> "concurrent.futures.Future[tuple[float | None, ...]]":
        """Queue a prompt whose own logprobs are asked for.

        Raises:
            ValueError: as `SamplingClient.sample` has it.
        """
        request = DecodeRequest(
            prompt=tuple(prompt.to_ints()),
            params=_PROMPT_ALONE,
            num_samples=0,
            tokenizer=None,
            adapter=weights.adapter,
            provenance=weights.session.provenance(_PROMPT_ALONE),
            prompt_logprobs=True,
        )
        outer: concurrent.futures.Future[tuple[float | None, ...]] = concurrent.futures.Future()

        def pass_on(inner: "concurrent.futures.Future[SampleResponse]") -> None:
            error = inner.exception()
            if error is None:
                outer.set_result(inner.result().prompt_logprobs or ())
            else:
                outer.set_exception(error)

        self._add(weights.loaded, request).add_done_callback(pass_on)
        return outer

    @property
    def busy(self) -> bool:
        """Whether there is work for `step`."""
        return bool(self._decoders)

    def step(self) -> None:
        """A chunk of a prompt, or one token in every slot, of the base model whose turn it is."""
        key, decoder = next(iter(self._decoders.items()))
        decoder.step()
        self._decoders.move_to_end(key)
        if not decoder.busy:
            del self._decoders[key]

    def fail(self, error: Exception) -> None:
        """Every request that is not done fails with `error`."""
        while self._decoders:
            self._decoders.popitem()[1].fail(error)

    def decoding(self, loaded: LoadedModel) -> str:
        """How sequences of a base model are decoded, for people: `slots of 4 or 8, exact`, or `one at a time: ...`."""
        return self._prepare(loaded).decoding

    def kv_bytes(self, loaded: LoadedModel, *, tokens: int) -> int:
        """Bytes of the keys and values of so many tokens. A group's prompt counts once; each sequence's own tokens
        count up to a quarter more than there are, in whole blocks, and every slot computed has room for the longest."""
        config = loaded.model.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return tokens * config.num_hidden_layers * 2 * heads * size * 4

    def statistics(self) -> dict[str, float]:
        """Counts for people who watch. Any thread may ask."""
        counts = [decoder.statistics for decoder in list(self._decoders.values())]
        names = ("sequences_decoding", "sequences_waiting", "kv_bytes")
        known: dict[str, float] = {name: sum(count[name] for count in counts) for name in names}
        packed = sum(prepared.linears.packed.nbytes for prepared in list(self._prepared.values()))
        return {**known, "slots": self._options.slots, "packed_bytes": packed}

    def _add(self, loaded: LoadedModel, request: DecodeRequest) -> "concurrent.futures.Future[SampleResponse]":
        decoder = self._decoders.get(id(loaded))
        if decoder is None:
            size = self.kv_bytes(loaded, tokens=1)
            decoder = SlotDecoder(loaded, self._prepare(loaded), token_bytes=size, room=self._room)
        future = decoder.add(request)
        if decoder.busy:
            self._decoders.setdefault(id(loaded), decoder)
        return future

    def _prepare(self, loaded: LoadedModel) -> Prepared:
        prepared = self._prepared.get(loaded.model)
        if prepared is None:
            prepared = self._prepared[loaded.model] = prepare(loaded, slots=self._options.slots)
            if prepared.reason and self._options.slots > 1:
                _LOG.warning("%s: completions are decoded %s", type(loaded.model).__name__, prepared.decoding)
        return prepared
