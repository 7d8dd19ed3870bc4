"""How do the SDK's failures reach a port's caller?

A mistake is the caller's to mend and becomes one of our UserErrors; everything else is a PortError that says whether
the same call may be repeated. Our own server puts the name of its exception before the sentence (`ModelError: ...`);
of other servers the HTTP status or the request's category decides, and the call's own kind of mistake.
"""

import re
from collections.abc import Generator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from crucible import errors
from crucible.errors import DataError, ManifestError, PortError, UserError

if TYPE_CHECKING:
    import tinker

_KINDS: Mapping[str, type[UserError]] = {
    name: kind
    for name in errors.__all__
    if isinstance(kind := getattr(errors, name), type) and issubclass(kind, UserError)
}
_NAMED = re.compile(r"(?P<kind>[A-Za-z]+): (?P<sentence>.+)", re.DOTALL)
_REQUEST_FAILED = re.compile(r"Request failed: (?P<told>.*) for self\.request_id=.* and expected type .*", re.DOTALL)
_PASSING = frozenset({408, 409, 429})
"""HTTP statuses below 500 that may pass by themselves."""


@dataclass(frozen=True, kw_only=True)
class Edge:
    """One edge between a port's call and the SDK.

    port: whose call it is. secret: the API key, which no message may show.
    mistake: the error for what the caller got wrong, where the service does not name it.
    repeatable: whether the call may be made again though the first may have been carried out.
    """

    port: str
    secret: str | None = None
    mistake: type[UserError] = DataError
    repeatable: bool = False

    def of(self, mistake: type[UserError] | None = None, *, repeatable: bool | None = None) -> "Edge":
        """The edge of another call of the same port."""
        return replace(
            self,
            mistake=self.mistake if mistake is None else mistake,
            repeatable=self.repeatable if repeatable is None else repeatable,
        )

    @contextmanager
    def sending(self) -> Generator[None]:
        """Around what makes a request: what the SDK refuses at once (ValueError, TypeError) is the caller's mistake."""
        import tinker

        with self.answered():
            try:
                yield
            except (UserError, PortError, tinker.TinkerError):
                raise
            except (ValueError, TypeError, OverflowError) as error:
                raise self.mistake.of(self._shown(str(error))) from error

    @contextmanager
    def answered(self) -> Generator[None]:
        """Around what brings a request's answer: turn the SDK's errors into ours. Ours pass unchanged."""
        import pydantic
        import tinker

        try:
            yield
        except (UserError, PortError):
            raise
        except tinker.RequestFailedError as error:
            raise self._failed(error) from error
        except tinker.APIStatusError as error:
            raise self._refused(error) from error
        except tinker.APIConnectionError as error:
            raise self._port_error(f"the service cannot be reached: {error}", retryable=self.repeatable) from error
        except tinker.APIError as error:
            raise self._port_error(f"the service's answer makes no sense: {error}") from error
        except tinker.TinkerError as error:  # what the SDK says of credentials
            raise self._no_key(error) from error
        except (pydantic.ValidationError, OverflowError) as error:
            raise self.mistake.of(self._shown(str(error))) from error
        except CancelledError as error:
            raise self._port_error("the client was closed before this request was done") from error
        except (ValueError, RuntimeError, OSError, AssertionError) as error:
            raise self._other(error) from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in ("tinker", "httpx", "pyqwest"):
                raise
            raise self._port_error(f"{type(error).__name__}: {error}", retryable=self.repeatable) from error

    def _failed(self, error: "tinker.RequestFailedError") -> UserError | PortError:
        found = _REQUEST_FAILED.fullmatch(error.message)
        told = found["told"] if found else error.message
        named = self._named(told)
        if named is not None:
            return named
        if str(error.category) == "user":
            return self.mistake.of(self._shown(told))
        details = {"request_id": error.request_id, "category": str(error.category)}
        retryable = self.repeatable and str(error.category) == "server"
        return self._port_error(told.removeprefix("PortError: "), retryable=retryable, details=details)

    def _refused(self, error: "tinker.APIStatusError") -> UserError | PortError:
        told, status = _told(error), error.status_code
        if status == 401:
            return ManifestError.of(
                f"the service does not take the API key: {self._shown(told)}", where="tinker.api_key"
            )
        if status in _PASSING or status >= 500 or status == 402:
            retryable = status == 429 or (self.repeatable and status != 402)
            return self._port_error(
                f"the service answered {status}: {told}", retryable=retryable, details={"status": status}
            )
        return self._named(told) or self.mistake.of(self._shown(told))

    def _named(self, told: str) -> UserError | None:
        """The error that our own server names."""
        found = _NAMED.fullmatch(told)
        if found is None:
            return None
        if found["kind"] == "ValueError":
            return self.mistake.of(self._shown(found["sentence"]))
        kind = _KINDS.get(found["kind"])
        return None if kind is None else kind.of(self._shown(found["sentence"]))

    def _no_key(self, error: Exception) -> UserError:
        if self.secret is None:
            return ManifestError.of(
                "the Tinker service takes an API key, and none was given",
                where="tinker.api_key",
                fix="Set TINKER_API_KEY, or give the option tinker.api_key",
            )
        return ManifestError.of(self._shown(str(error)), where="tinker.api_key")

    def _other(self, error: Exception) -> UserError | PortError:
        """What the SDK raises without a class of its own."""
        import tinker

        if isinstance(error.__cause__, tinker.APIStatusError) and error.__cause__.status_code == 401:
            return self._refused(error.__cause__)
        if isinstance(error, OSError):  # TimeoutError is one
            return self._port_error(str(error) or type(error).__name__, retryable=self.repeatable)
        return self._port_error(f"{type(error).__name__}: {error}")

    def _port_error(
        self, message: str, *, retryable: bool = False, details: Mapping[str, object] | None = None
    ) -> PortError:
        return PortError(self._shown(message), port=self.port, adapter="tinker", retryable=retryable, details=details)

    def _shown(self, message: str) -> str:
        return message.replace(self.secret, "[api_key]") if self.secret else message


def _told(error: "tinker.APIStatusError") -> str:
    """What the service said: `detail`, `error` or `message` of its JSON, or the start of its text."""
    body = cast(Any, error.body)
    if isinstance(body, dict):
        fields = cast("dict[str, Any]", body)
        for name in ("detail", "error", "message"):
            if isinstance(found := fields.get(name), str) and found:
                return found
    return error.message[:500]
