"""What does a client of OpenAI's API learn of what went wrong? The same as others, in that API's form."""

from collections.abc import Awaitable, Callable
from functools import wraps

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from crucible.errors import PortError
from crucible.server.answers import answer
from crucible.server.refusals import Refusal, failure_of, shown

Endpoint = Callable[[Request], Awaitable[Response]]


class OpenAiError(Refusal):
    """A refusal that names the parameter it is about. code: a word that programs read."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(status, message)
        self.param, self.code = param, code


def error_json(error: Exception) -> tuple[dict[str, object], int]:
    """The error's body and HTTP status."""
    param: str | None = None
    code: str | None = None
    if isinstance(error, Refusal):
        message, status = shown(str(error)), error.status
        if isinstance(error, OpenAiError):
            param, code = error.param, error.code
    else:
        failure = failure_of(error)
        message = failure.error
        status = 400 if failure.category == "user" else 503 if isinstance(error, PortError) and error.retryable else 500
    kind = "rate_limit_error" if status == 429 else "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}, status


def openai_answered(endpoint: Endpoint) -> Endpoint:
    """The endpoint, with an answer in OpenAI's form to whatever it raises."""

    @wraps(endpoint)
    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except Exception as error:  # noqa: BLE001  (whatever it is, the client gets an answer in JSON)
            body, status = error_json(error)
            response = answer(body, status=status)
            if status == 429:
                response.headers["retry-after"] = "1"
            return response

    return guarded
