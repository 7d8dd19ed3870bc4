"""How much may clients ask of a server?"""

from dataclasses import dataclass, fields

from crucible.errors import ManifestError, Problem

_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is refused for its size, its number or its age. Seconds and bytes unless said otherwise.

    Of one request:
    max_body_bytes: as it is sent, and as it is once unpacked. The SDK cuts its own at 5 MB; a datum of 128k tokens
        with three arrays is 2 MB.
    max_datums: of one forward_backward. The SDK cuts its own at 1,024.
    max_samples: completions asked for at once. The largest groups in use are some hundreds.
    max_chat_tokens: new tokens of a chat completion that names no `max_tokens`.

    Of the whole server:
    max_waiting_samples: completions asked for and not done; beyond it 429. The SDK keeps 2,000 requests in flight.
    max_waiting_training: requests that wait for one model; beyond it 429. The SDK sends few before it waits.
    max_sessions, max_models: open at a time, of one key. A model is an adapter with its optimizer in memory.
    session_timeout: without a heartbeat, which the SDK sends every 10 s and gives up on after 120 s.
    missing_request_timeout: that requests wait for one before theirs; a client that retries gives up after 300 s.

    Of results:
    result_ttl: that one can be read again. result_bytes: of all of them; the oldest go first.
    hold_seconds: that a poll waits for its result. The SDK's own limit is 45 s.

    Of what is stored:
    url_ttl: that a download's URL is good for. sweep_seconds: between two looks for expired checkpoints.
    """

    max_body_bytes: int = 64 * _MIB
    max_datums: int = 4096
    max_samples: int = 1024
    max_chat_tokens: int = 1024
    max_waiting_samples: int = 16_384
    max_waiting_training: int = 256
    max_sessions: int = 256
    max_models: int = 64
    session_timeout: float = 300.0
    missing_request_timeout: float = 600.0
    result_ttl: float = 900.0
    result_bytes: int = 1024 * _MIB
    hold_seconds: float = 25.0
    url_ttl: float = 3600.0
    sweep_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Nothing may be zero or less.

        Raises:
            ManifestError: naming every limit that is.
        """
        wrong = [name for name in (each.name for each in fields(self)) if not getattr(self, name) > 0]
        if wrong:
            raise ManifestError([Problem(what="is not more than 0", where=name) for name in wrong])
