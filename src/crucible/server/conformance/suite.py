"""Which checks are there, and how does one run of them become a scorecard?"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from crucible.errors import ConfigError
from crucible.ports.tokenizer import Tokenizer
from crucible.server.conformance import (
    checkpoint_checks,
    isolation_checks,
    loss_checks,
    order_checks,
    protocol_checks,
    report_checks,
    sampling_checks,
    training_checks,
)
from crucible.server.conformance.answers import Broken, Mismatch, Refused, Unreachable
from crucible.server.conformance.checks import Bench, Check
from crucible.server.conformance.runs import part, served_models
from crucible.server.conformance.transport import Transport

Status: TypeAlias = Literal["pass", "fail", "unsupported"]

GROUPS: Mapping[str, Sequence[Check]] = {
    "protocol": protocol_checks.CHECKS,
    "training": training_checks.CHECKS,
    "losses": loss_checks.CHECKS,
    "sampling": sampling_checks.CHECKS,
    "reports": report_checks.CHECKS,
    "isolation": isolation_checks.CHECKS,
    "checkpoints": checkpoint_checks.CHECKS,
    "order": order_checks.CHECKS,
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found.

    status: unsupported means that the server refused, in the words of `detail`.
    expected, got: where they differ. detail: what was measured, or the server's words.
    """

    group: str
    check: str
    statement: str
    required: bool
    status: Status
    detail: str
    expected: str = ""
    got: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Scorecard:
    """All that was found at one server."""

    url: str
    base_model: str
    tolerance: float
    findings: Sequence[Finding]

    def count(self, status: Status) -> int:
        """How many checks ended so."""
        return sum(finding.status == status for finding in self.findings)

    @property
    def conforms(self) -> bool:
        """No check failed, and none that is required is unsupported."""
        return not any(
            finding.status == "fail" or (finding.required and finding.status == "unsupported")
            for finding in self.findings
        )


def examine(
    url: str,
    *,
    key: str,
    model: str | None = None,
    tolerance: float = 1e-3,
    only: Sequence[str] = (),
    patience: float = 120.0,
    tokenizers: Callable[[str], Tokenizer | None] | None = None,
    on_start: Callable[[str, Check], None] | None = None,
) -> Scorecard:
    """Run the suite against a server.

    model: the base model's public name; None takes the first that the server lists.
    tolerance: nats within which two logprobs are the same; 1e-3 suits fp32, a bf16 server needs more.
    only: names of checks or groups; none means all. patience: seconds that one result may take.
    tokenizers: from the tokenizer_id that the server names to the tokenizer, or None without one at hand.
    on_start: called with group and check before each.

    Raises:
        Unreachable: if there is no such server, or it refuses the key.
        ConfigError: if the model is not served, or `only` names no check.
    """
    chosen = list(_chosen(only))
    transport = Transport(url, key=key, patience=patience)
    try:
        bench = Bench(transport=transport, base_model=_model(transport, model), tolerance=tolerance)
        if tokenizers is not None:
            bench.tokenizer = tokenizers(_tokenizer_id(bench))
        findings: list[Finding] = []
        for group, check in chosen:
            if on_start is not None:
                on_start(group, check)
            findings.append(_run(group, check, bench))
    finally:
        transport.close()
    return Scorecard(url=transport.url, base_model=bench.base_model, tolerance=tolerance, findings=findings)


def _chosen(only: Sequence[str]) -> Iterator[tuple[str, Check]]:
    known = {*GROUPS, *(check.name for checks in GROUPS.values() for check in checks)}
    if unknown := sorted({*only} - known):
        raise ConfigError.of(
            "there is no such check",
            where="--only",
            given=", ".join(unknown),
            fix=f"One of: {', '.join(sorted(known))}",
        )
    for group, checks in GROUPS.items():
        for check in checks:
            if not only or group in only or check.name in only:
                yield group, check


def _model(transport: Transport, wanted: str | None) -> str:
    names = served_models(transport)
    if wanted is None and not names:
        raise Unreachable(f"{transport.url} serves no model")
    if wanted is not None and wanted not in names:
        raise ConfigError.of(
            "the server does not serve this model", where="--model", given=wanted, fix=f"One of: {', '.join(names)}"
        )
    return wanted if wanted is not None else names[0]


def _tokenizer_id(bench: Bench) -> str:
    """The tokenizer that the server names, "" if it names none."""
    try:
        with bench.session() as session:
            shown = bench.transport.ask("POST", "/get_info", {"model_id": session.run().model_id})
    except (Refused, Broken):
        return ""
    return str(part(shown, "model_data").get("tokenizer_id") or "")


def _run(group: str, check: Check, bench: Bench) -> Finding:
    began = time.monotonic()
    status: Status = "fail"
    expected = got = ""
    try:
        detail = check.run(bench)
        status = "pass"
    except Refused as error:
        status, detail = "unsupported", error.words
    except Mismatch as error:
        detail, expected, got = error.what, error.expected, error.got
    except Broken as error:
        detail = str(error)
    return Finding(
        group=group,
        check=check.name,
        statement=check.statement,
        required=check.required,
        status=status,
        detail=detail,
        expected=expected,
        got=got,
        seconds=time.monotonic() - began,
    )
