"""Are requests done once and in their order, and are results there until they are fetched?"""

import threading
import time

import numpy as np

from crucible.server.conformance.answers import Broken, Mismatch, Refused
from crucible.server.conformance.checks import Bench, Check, differ, holds, probe, row, same, tokens, told
from crucible.server.conformance.runs import descent, promised, text
from crucible.server.conformance.transport import Reply


def seq_ids_decide_the_order(bench: Bench) -> str:
    """Requests of a run are done in the order of their seq_ids, whatever order they arrive in."""
    rows = probe()
    with bench.session() as session:
        expected = bench.stepped(session, rows).forward(rows).flat()
        run = session.run()
        first, second, third = (run.next_id() for _ in range(3))
        scored = run.submit_rows(rows, forward_only=True, seq_id=third)
        stepped = run.submit_step(descent(bench.rate()), seq_id=second)
        trained = run.submit_rows(rows, seq_id=first)
        after = scored.scores().flat()
        stepped.json()
        before = trained.scores().flat()
    return told(
        same("logprobs after the step", after, expected, within=bench.tolerance),
        differ("before and after it", before, after, by=5 * bench.tolerance),
    )


def many_requests_in_flight(bench: Bench) -> str:
    """Twenty requests of a run sent from twenty threads are done in the order of their seq_ids."""
    data = [row(6, seed=60 + index) for index in range(10)]
    with bench.session() as session:
        run, straight = session.run(), session.run()
        for each in data:
            straight.forward_backward([each])
            straight.descend(bench.rate() / 10)
        promises: list[object] = []
        lock = threading.Lock()

        def send(index: int) -> None:
            if index % 2 == 0:
                promise = run.submit_rows([data[index // 2]], seq_id=index + 1)
            else:
                promise = run.submit_step(descent(bench.rate() / 10), seq_id=index + 1)
            with lock:
                promises.append(promise)
            promise.reply()

        threads = [threading.Thread(target=send, args=(index,), daemon=True) for index in range(20)]
        for thread in np.random.default_rng(1).permutation(np.asarray(threads, dtype=object)):
            thread.start()
        for thread in threads:
            thread.join(timeout=bench.transport.patience)
        if len(promises) < 20 or any(thread.is_alive() for thread in threads):
            raise Broken(f"{len(promises)} of 20 requests were accepted, not all were answered")
        run.next_id()
        scored = run.submit_rows(data, forward_only=True, seq_id=21).scores().flat()
        return same("logprobs at the end", scored, straight.forward(data).flat(), within=2 * bench.tolerance)


def replays_are_done_once(bench: Bench) -> str:
    """A request sent again with the same seq_id gives the first result and trains once."""
    rows = probe()
    with bench.session() as session:
        expected = bench.stepped(session, rows).forward(rows).flat()
        run = session.run()
        first, step = run.next_id(), run.next_id()
        scores = [run.submit_rows(rows, seq_id=first).scores().flat() for _ in range(2)]
        for _ in range(2):
            run.submit_step(descent(bench.rate()), seq_id=step).json()
        return told(
            same("the result of the replay", scores[1], scores[0], within=0.0),
            same("logprobs after one step", run.forward(rows).flat(), expected, within=bench.tolerance),
        )


def sampling_replays_are_drawn_once(bench: Bench) -> str:
    """A sampling request sent again with the same seq_id gives the first completions, without a seed too."""
    prompt, params = tokens(6, seed=61), {"max_tokens": 12, "temperature": 1.0, "stop": list[int]()}
    with bench.session() as session:
        sampler = session.sampler()
        drawn = [sampler.submit(prompt, params, seq_id=7).drawn().completions[0].tokens for _ in range(2)]
    return holds(drawn[0] == drawn[1], "tokens of the replay", expected=drawn[0], got=drawn[1])


def create_model_is_done_once(bench: Bench) -> str:
    """create_model sent again with the same model_seq_id gives the same run."""
    with bench.session() as session:
        body = session.create_body()
        ids = [text(promised(session.transport, "/create_model", body).json(), "model_id") for _ in range(2)]
    return holds(ids[0] == ids[1], "model ids", expected=ids[0], got=ids[1])


def results_can_be_read_again(bench: Bench) -> str:
    """A result stays there after it was read."""
    with bench.session() as session:
        promise = session.run().submit_rows(probe())
        first = promise.reply()
        try:
            second = promise.reply()
        except Refused as error:
            raise Mismatch("the second reading", expected="the same result", got=error.words) from error
    return holds(first.body == second.body, "the second reading", expected="the same bytes", got=len(second.body))


def errors_use_up_their_seq_id(bench: Bench) -> str:
    """A request that fails takes its place in the order: those after it are done."""
    rows = probe()
    with bench.session() as session:
        run = session.run()
        before = run.forward(rows).flat()
        try:
            run.submit_rows(rows, loss_fn="no_such_loss").scores()
        except Refused as error:
            words = error.words
        else:
            raise Mismatch("an unknown loss", expected="an error", got="a result")
        return told(
            f"refused: {words[:80]}",
            same("logprobs of the next request", run.forward(rows).flat(), before, within=bench.tolerance),
        )


def results_are_held_for(bench: Bench) -> str:
    """A result that is not there yet is waited for: the poll is held some seconds (at most 45), then says try again."""
    with bench.session() as session:
        run = session.run()
        run.next_id()
        early = run.submit_step(descent(0.0), seq_id=run.next_id())
        reply = early.transport.poll(early.request_id)
        _is_try_again(reply)
        held = holds(1.0 <= reply.seconds < 45.0, "held", expected="1 to 45 s", got=f"{reply.seconds:.1f} s")
        answers: list[tuple[Reply, float]] = []
        waiting = threading.Thread(target=lambda: answers.append((early.reply(), time.monotonic())), daemon=True)
        waiting.start()
        time.sleep(0.5)
        run.submit_rows(probe(), seq_id=1)
        sent = time.monotonic()
        waiting.join(timeout=bench.transport.patience)
        if not answers:
            raise Broken("no result though the missing request was sent")
        return told(held, f"then answered {answers[0][1] - sent:.1f} s after the missing request came")


def _is_try_again(reply: Reply) -> None:
    if reply.status not in (200, 408):
        raise Mismatch("a poll for an early request", expected="408 or try_again", got=str(reply.status))
    holds(reply.json().get("type") == "try_again", "its body", expected="try_again", got=reply.words())


CHECKS = (
    Check(seq_ids_decide_the_order),
    Check(many_requests_in_flight),
    Check(replays_are_done_once),
    Check(sampling_replays_are_drawn_once),
    Check(create_model_is_done_once),
    Check(results_can_be_read_again),
    Check(errors_use_up_their_seq_id),
    Check(results_are_held_for),
)
