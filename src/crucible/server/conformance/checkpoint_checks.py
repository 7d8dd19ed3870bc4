"""Do checkpoints bring back what was saved, and can they be listed, kept for a time and deleted?"""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from crucible.server.conformance.answers import Broken, Mismatch, Refused
from crucible.server.conformance.checks import Bench, Check, differ, holds, probe, row, same, told
from crucible.server.conformance.runs import Run, Session, unique

_ADAM = {"learning_rate": 1e-2, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8}


def _trained(session: Session) -> Run:
    run = session.run()
    for each in probe():
        run.forward_backward([each])
        run.step(_ADAM)
    return run


def _one_more(run: Run) -> Any:
    """Logprobs after one more step, which depends on the optimizer's moments."""
    rows = [row(11, seed=51)]
    run.forward_backward(rows)
    run.step(_ADAM)
    return run.forward(rows).flat()


def weights_come_back(bench: Bench) -> str:
    """A run created from a checkpoint scores as the saved run did."""
    rows = probe()
    with bench.session() as session:
        run = bench.stepped(session, rows)
        expected = run.forward(rows).flat()
        path = run.save(unique("weights"))
        run.forward_backward(rows)
        run.descend(bench.rate())
        loaded = session.run_from(path, optimizer=False)
        return same("logprobs", loaded.forward(rows).flat(), expected, within=bench.tolerance)


def optimizer_comes_back(bench: Bench) -> str:
    """Resuming with the optimizer goes on as the saved run does; without it the moments start afresh."""
    with bench.session() as session:
        run = _trained(session)
        path = run.save(unique("state"))
        expected = _one_more(run)
        resumed, reset = (session.run_from(path, optimizer=optimizer) for optimizer in (True, False))
        return told(
            same("resumed with the optimizer", _one_more(resumed), expected, within=2 * bench.tolerance),
            differ("resumed without it", _one_more(reset), expected, by=5 * bench.tolerance),
        )


def load_into_a_run(bench: Bench) -> str:
    """load_weights as a run's first request replaces its weights."""
    rows = probe()
    with bench.session() as session:
        saved = bench.stepped(session, rows)
        path, expected = saved.save(unique("load")), saved.forward(rows).flat()
        run = session.run()
        run.submit("/load_weights", {"path": path, "optimizer": True}).reply()
        return same("logprobs", run.forward(rows).flat(), expected, within=bench.tolerance)


def saving_changes_nothing(bench: Bench) -> str:
    """Training goes on after a save as if there had been none."""
    with bench.session() as session:
        plain, saver = _trained(session), _trained(session)
        saver.save(unique("between"))
        saver.save_for_sampler(unique("between"))
        return same("logprobs after one more step", _one_more(saver), _one_more(plain), within=2 * bench.tolerance)


def path_grammar(bench: Bench) -> str:
    """Saved paths are tinker://RUN/weights/NAME and tinker://RUN/sampler_weights/NAME."""
    name = unique("path")
    with bench.session() as session:
        run = session.run()
        paths = {run.save(name), run.save_for_sampler(name)}
    expected = {f"tinker://{run.model_id}/{kind}/{name}" for kind in ("weights", "sampler_weights")}
    return holds(paths == expected, "paths", expected=sorted(expected), got=sorted(paths))


def _listed(session: Session, run: Run) -> dict[str, dict[str, Any]]:
    told_back = session.transport.ask("GET", f"/training_runs/{quote(run.model_id, safe=':')}/checkpoints")
    if not isinstance(told_back.get("checkpoints"), list):
        raise Broken(f"no list of checkpoints in {str(told_back)[:200]}")
    return {str(each.get("checkpoint_id")): each for each in told_back["checkpoints"]}


def checkpoints_are_listed(bench: Bench) -> str:
    """A run's checkpoints are listed with id, type, time, path and whether they are public; so is the run itself."""
    name = unique("listed")
    with bench.session() as session:
        run = session.run()
        paths = {"weights": run.save(name), "sampler_weights": run.save_for_sampler(name)}
        listed = _listed(session, run)
        shown = session.transport.ask("GET", f"/training_runs/{quote(run.model_id, safe=':')}")
    kinds = {"weights": "training", "sampler_weights": "sampler"}
    for kind, path in paths.items():
        entry = listed.get(f"{kind}/{name}")
        if entry is None:
            raise Mismatch("checkpoint ids", expected=f"{kind}/{name}", got=str(sorted(listed)))
        asked = (entry.get("checkpoint_type"), entry.get("tinker_path"), bool(entry.get("time")), entry.get("public"))
        holds(asked == (kinds[kind], path, True, False), kind, expected=(kinds[kind], path, True, False), got=asked)
    same_run = (shown.get("training_run_id"), shown.get("base_model"), shown.get("is_lora"))
    expected = (run.model_id, session.base_model, True)
    return told(f"{len(listed)} listed", holds(same_run == expected, "the run", expected=expected, got=same_run))


def _change(session: Session, method: str, run: Run, checkpoint: str, rest: str = "", **body: object) -> None:
    path = f"/training_runs/{quote(run.model_id, safe=':')}/checkpoints/{checkpoint}{rest}"
    session.transport.accepted(method, path, body or None)


def checkpoint_ttl(bench: Bench) -> str:
    """A ttl, given when saving or later, makes a checkpoint expire."""
    name = unique("ttl")
    with bench.session() as session:
        run = session.run()
        run.save(name, ttl_seconds=7200)
        first = _listed(session, run)[f"weights/{name}"].get("expires_at")
        _change(session, "PUT", run, f"weights/{name}", "/ttl", ttl_seconds=86400)
        second = _listed(session, run)[f"weights/{name}"].get("expires_at")
    return told(
        holds(bool(first), "expires_at once saved", expected="a time", got=first),
        holds(bool(second) and str(second) > str(first), "expires_at once set", expected=f"after {first}", got=second),
    )


def checkpoint_publish(bench: Bench) -> str:
    """A checkpoint can be published and made private again."""
    name = unique("public")
    with bench.session() as session:
        run = session.run()
        run.save(name)
        seen: list[object] = []
        for method in ("POST", "DELETE"):
            _change(session, method, run, f"weights/{name}", "/publish")
            seen.append(_listed(session, run)[f"weights/{name}"].get("public"))
    return holds(seen == [True, False], "public, once published and once withdrawn", expected=[True, False], got=seen)


def checkpoint_delete(bench: Bench) -> str:
    """A deleted checkpoint is listed no more, and what loads it fails with the user's error."""
    name = unique("deleted")
    with bench.session() as session:
        run = session.run()
        path = run.save(name)
        _change(session, "DELETE", run, f"weights/{name}")
        left = sorted(_listed(session, run))
        words = refusal(lambda: session.run_from(path, optimizer=False))
    return told(holds(f"weights/{name}" not in left, "checkpoints left", expected="without it", got=left), words)


def missing_checkpoint(bench: Bench) -> str:
    """Weights that do not exist are refused, in words, by training and by sampling."""
    with bench.session() as session:
        run = session.run()
        gone = f"tinker://{run.model_id}/weights/{unique('never')}"
        sampler = gone.replace("/weights/", "/sampler_weights/")
        return told(refusal(lambda: session.run_from(gone, optimizer=True)), refusal(lambda: session.sampler(sampler)))


def refusal(attempt: Callable[[], object]) -> str:
    """The words with which something is refused, as it must be."""
    try:
        attempt()
    except Refused as error:
        if error.status == 200 and error.category != "user":
            raise Mismatch("the category of a user's error", expected="user", got=error.category) from error
        return f"refused: {error.words[:80]}"
    raise Mismatch("what cannot be done", expected="a refusal", got="success")


def weights_info(bench: Bench) -> str:
    """weights_info tells base model and LoRA rank of a saved path."""
    with bench.session() as session:
        path = session.run(rank=4).save(unique("info"))
        shown = session.transport.ask("POST", "/weights_info", {"tinker_path": path})
    got = (shown.get("base_model"), shown.get("is_lora"), shown.get("lora_rank"))
    return holds(got == (bench.base_model, True, 4), "weights_info", expected=(bench.base_model, True, 4), got=got)


def names_are_not_reused(bench: Bench) -> str:
    """A taken checkpoint name fails the future with the user's error unless overwrite is asked for."""
    name = unique("taken")
    with bench.session() as session:
        run = session.run()
        path = run.save(name)
        words = refusal(lambda: run.save(name))
        again = run.save(name, overwrite=True)
    return told(words, holds(again == path, "overwritten", expected=path, got=again))


CHECKS = (
    Check(weights_come_back),
    Check(optimizer_comes_back),
    Check(load_into_a_run, required=False),
    Check(saving_changes_nothing),
    Check(path_grammar),
    Check(checkpoints_are_listed),
    Check(checkpoint_ttl),
    Check(checkpoint_publish, required=False),
    Check(checkpoint_delete),
    Check(missing_checkpoint),
    Check(names_are_not_reused, required=False),
    Check(weights_info),
)
