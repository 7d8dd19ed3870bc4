"""Does one run, or one sampler, stay as it is whatever the others do?"""

from crucible.server.conformance.checks import Bench, Check, differ, probe, row, same, tokens, told
from crucible.server.conformance.runs import Sampler, text, unique

_PROMPT = tokens(10, seed=41)


def snapshots_do_not_move(bench: Bench) -> str:
    """Training after save_weights_for_sampler moves no sampler of what was saved, open or opened later."""
    rows = probe()
    with bench.session() as session:
        run = bench.stepped(session, rows)
        path = run.save_for_sampler(unique("snapshot"))
        sampler = session.sampler(path)
        saved = sampler.prompt_logprobs(_PROMPT)[1:]
        run.forward_backward([row(11, seed=42)])
        run.descend(bench.rate())
        late = session.sampler(run.save_for_sampler(unique("snapshot")))
        return told(
            same("the open sampler", sampler.prompt_logprobs(_PROMPT)[1:], saved, within=bench.tolerance / 10),
            same(
                "one opened later",
                session.sampler(path).prompt_logprobs(_PROMPT)[1:],
                saved,
                within=bench.tolerance / 10,
            ),
            differ("the new weights", late.prompt_logprobs(_PROMPT)[1:], saved, by=5 * bench.tolerance),
        )


def nameless_snapshots(bench: Bench) -> str:
    """save_weights_for_sampler without a name opens a sampler of the weights as they are, and it does not move."""
    rows = probe()
    with bench.session() as session:
        run = bench.stepped(session, rows)
        told_back = run.submit(
            "/save_weights_for_sampler", {"sampling_session_seq_id": session.next_sampler_id(), "kind": "snapshot"}
        ).json()
        sampler = Sampler(session.transport, text(told_back, "sampling_session_id"))
        ids = (*rows[0].tokens, int(rows[0].inputs["target_tokens"][-1]))
        saved, trained = sampler.prompt_logprobs(ids)[1:], run.forward(rows).array(0)
        run.descend(bench.rate())
        run.forward_backward(rows)
        run.descend(bench.rate())
        return told(
            same("sampler and trainer", saved, trained, within=bench.tolerance),
            same("after more training", sampler.prompt_logprobs(ids)[1:], saved, within=bench.tolerance / 10),
        )


def runs_do_not_move_each_other(bench: Bench) -> str:
    """Two runs that train in turns end where each ends alone; a run that is not trained, and the base model, stay."""
    mine, yours = [row(12, seed=1)], [row(9, seed=43)]
    with bench.session() as session, bench.session() as other:
        base, idle = session.sampler(), other.run()
        before, untouched = base.prompt_logprobs(_PROMPT)[1:], idle.forward(mine).flat()
        alone = bench.stepped(session, mine)
        first, second = session.run(), other.run(rank=4)
        for promise in (first.submit_rows(mine), second.submit_rows(yours)):
            promise.scores()
        first.descend(bench.rate())
        second.descend(bench.rate())
        return told(
            same("beside another run", first.forward(mine).flat(), alone.forward(mine).flat(), within=bench.tolerance),
            same("the run that is not trained", idle.forward(mine).flat(), untouched, within=bench.tolerance / 10),
            same("the base model", base.prompt_logprobs(_PROMPT)[1:], before, within=bench.tolerance / 10),
        )


CHECKS = (Check(snapshots_do_not_move), Check(nameless_snapshots), Check(runs_do_not_move_each_other))
