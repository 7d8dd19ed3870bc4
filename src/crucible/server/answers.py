"""How is a request answered? With JSON always, whatever happened."""

import logging
from collections.abc import Awaitable, Callable
from functools import wraps

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from crucible.errors import CheckpointError, PortError
from crucible.server.refusals import Refusal, failure_of

LOGGER = logging.getLogger("crucible.server")
Endpoint = Callable[[Request], Awaitable[Response]]


def answer(value: object, *, status: int = 200) -> Response:
    """A value as JSON."""
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


def answered(endpoint: Endpoint) -> Endpoint:
    """The endpoint, with an answer to whatever it raises."""

    @wraps(endpoint)
    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except Exception as error:  # noqa: BLE001  (whatever it is, the client gets an answer in JSON)
            return error_answer(error)

    return guarded


def error_answer(error: Exception) -> Response:
    """What an exception is to the client: the user's fault is a 400, a backend's a 500."""
    if isinstance(error, Refusal):
        response = answer(error.body, status=error.status)
        if error.status == 429:
            response.headers["retry-after"] = "1"
        return response
    if isinstance(error, HTTPException):
        return answer({"detail": error.detail, "category": "user"}, status=error.status_code)
    failure = failure_of(error)
    status = 400 if failure.category == "user" else 500
    response = answer({"detail": failure.error, "category": failure.category}, status=status)
    if not (isinstance(error, PortError) and error.retryable):
        response.headers["x-should-retry"] = "false"
    return response


async def http_error(request: Request, error: Exception) -> Response:
    """For what the router itself refuses: no such path, or not by this method."""
    del request
    return error_answer(error)


def no_checkpoint(path: str) -> CheckpointError:
    """There is none of this path, or it is another key's, or its time is over."""
    return CheckpointError.of("there is no such checkpoint", given=path[:300])
