"""How good is the model on rows it was not trained on?"""

import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from crucible.framework import Reads, Stage, StageContext
from crucible.kitchen.scoring import bits_per_byte_of, token_nll
from crucible.kitchen.slots import Totals
from crucible.ports import SamplingClient, Tokenizer, TrainingClient
from crucible.ports.datum import Datum, TensorData
from crucible.ports.future import Future
from crucible.ports.sampling_client import SamplingParams
from crucible.ports.training_client import ForwardBackwardOutput, TrainingSession
from crucible.train.data import BatchRows, RenderedBatch, RowError, SupervisedDataset, row_to_messages, row_tools
from crucible.train.messages import Message, Tool


class Evaluate(Stage):
    """Measure the held-out negative log-likelihood per trained token (nats), and bits per byte if asked.

    label: names the result: `eval_nll_<label>`; a result of a step is a metric of that step as well.
    With no held-out rows it says so and records nothing: no number is better than a made-up one.
    """

    ports: ClassVar = (TrainingClient,)
    session: Reads[TrainingSession]
    heldout: Reads[SupervisedDataset]
    tokenizer: Reads[Tokenizer]
    step: Reads[int]
    label: str
    bits_per_byte: bool = False

    async def execute(self, ctx: StageContext) -> None:
        heldout, step = ctx.read(self.heldout), ctx.read(self.step)
        about = {"label": self.label}
        ctx.emit("eval.start", {"step": step, "rows": len(heldout.rows)}, about)
        client, session = ctx.port(TrainingClient), ctx.read(self.session)
        waiting: list[tuple[RenderedBatch, Future[ForwardBackwardOutput]]] = []
        for rows in in_order(heldout):
            batch = heldout.render(rows)
            if batch.datums:
                waiting.append((batch, client.forward(session, batch.datums, logprobs="weighted")))
        datums: list[Datum] = []
        outputs: list[Mapping[str, TensorData]] = []
        for batch, future in waiting:
            datums.extend(batch.datums)
            outputs.extend((await future).loss_fn_outputs)
        if datums:
            self._record(ctx, step=step, datums=datums, outputs=outputs)
        ctx.emit("eval.stop", {"step": step, "rows": len(datums)}, about)

    def _record(
        self,
        ctx: StageContext,
        *,
        step: int,
        datums: Sequence[Datum],
        outputs: Sequence[Mapping[str, TensorData]],
    ) -> None:
        values = {"eval/nll": token_nll(outputs, datums)}
        if self.bits_per_byte:
            values["eval/bits_per_byte"] = bits_per_byte_of(outputs, datums, ctx.read(self.tokenizer))
        ctx.record_metrics(step, values)
        for name, value in values.items():
            ctx.record_result(f"{name.replace('/', '_')}_{self.label}", value)
        ctx.emit("eval.result", {"step": step, "rows": len(datums), **values}, {"label": self.label})


class ShowSample(Stage):
    """Let the model answer the first held-out row, so that a person can see what training changed.

    Greedy, so that before and after differ by the weights alone. Without a sampling port it does nothing.
    """

    ports: ClassVar = (TrainingClient,)
    optional_ports: ClassVar = (SamplingClient,)
    session: Reads[TrainingSession]
    heldout: Reads[SupervisedDataset]
    label: str
    max_tokens: int = 128

    async def execute(self, ctx: StageContext) -> None:
        heldout = ctx.read(self.heldout)
        shown = _first_answerable(heldout)
        if shown is None or not ctx.has_port(SamplingClient):
            return
        asked, tools, reference = shown
        sampling, training = ctx.port(SamplingClient), ctx.port(TrainingClient)
        name = f"sample-{self.label}"
        weights = await training.save_weights_for_sampler(ctx.read(self.session), name, overwrite=True)
        opened = await sampling.start_session(model_path=weights.path)
        prompt = heldout.renderer.build_generation_prompt(asked, tools=tools)
        params = SamplingParams(max_tokens=self.max_tokens, temperature=0.0, stop=heldout.renderer.stop_sequences)
        response = await sampling.sample(opened, prompt, params=params)
        await sampling.close_session(opened)
        answer = heldout.renderer.parse_response(response.sequences[0].tokens)
        result = {"prompt": _text(asked[-1]), "answer": _text(answer.message), "ended": answer.ended}
        ctx.record_result(f"sample_{self.label}", {**result, "reference": _text(reference)})


def in_order(dataset: SupervisedDataset) -> Iterator[BatchRows]:
    """The data set's rows as they stand, in batches."""
    size = dataset.batch_size
    for index, start in enumerate(range(0, len(dataset.rows), size)):
        rows = tuple(range(start, min(start + size, len(dataset.rows))))
        yield BatchRows(epoch=0, index=index, rows=rows)


def _first_answerable(dataset: SupervisedDataset) -> tuple[list[Message], list[Tool], Message] | None:
    """The messages before the last assistant message of the first row that has one, its tools, and that message."""
    for row in dataset.rows:
        try:
            messages, tools = row_to_messages(row, dataset.row_format), row_tools(row)
        except RowError:
            continue
        last = max((i for i, message in enumerate(messages) if message["role"] == "assistant"), default=0)
        if last:
            return messages[:last], tools, messages[last]
    return None


def _text(message: Message) -> str:
    content = message["content"]
    return content if isinstance(content, str) else str(content)


class Summarize(Stage):
    """Record what the whole training cost: tokens, tokens per second, peak memory of this process."""

    totals: Reads[Totals]

    async def execute(self, ctx: StageContext) -> None:
        totals = ctx.read(self.totals)
        results: dict[str, Any] = {
            "steps": totals.steps,
            "tokens": totals.tokens,
            "trained_tokens": totals.trained_tokens,
            "rows_dropped": totals.rows_dropped,
            "rows_truncated": totals.rows_truncated,
            "training_seconds": totals.seconds,
            "tokens_per_second": totals.tokens / totals.seconds if totals.seconds > 0 else 0.0,
            "peak_memory_bytes": peak_memory_bytes(),
        }
        for name, value in results.items():
            ctx.record_result(name, value)


def peak_memory_bytes() -> int:
    """This process's largest resident set so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts KiB, macOS bytes
