"""What is a client told before it does anything? How to behave, and what is served."""

from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crucible.server.answers import answer, answered
from crucible.server.bodies import read_body, read_json
from crucible.server.live import Live
from crucible.server.refusals import Refusal


class ClientConfig(Struct, frozen=True, kw_only=True):
    """The SDK's switches, by its names; what is not here has the SDK's default.

    fwdbwd_max_chunk_bytes_count: a body of so many bytes by the SDK's estimate; the rest of a message, such as the
        shapes of its tensors, is left as much again. sample_use_retrieve_futures: one question for all samples of a
        session, in place of one each. create_model_via_load_weights: of SDKs before 0.38: what newer ones always do.
    """

    pjwt_auth_enabled: bool = False
    credential_default_source: str = "api_key"
    parallel_fwdbwd_chunks: bool = True
    proto_compress_fwdbwd: bool = False
    fwdbwd_max_chunk_len: int = 1024
    fwdbwd_max_chunk_bytes_count: int = 5_000_000
    sample_no_retries: bool = False
    sample_enable_stuck_detection: bool = True
    sample_max_concurrent_requests: int = 2000
    use_pyqwest_transport: bool = True
    sample_use_retrieve_futures: bool = True
    custom_loss_server_side: bool = False
    sample_join_sampling_session: bool = True
    create_model_via_load_weights: bool = True


class DynamicConfig(Struct, frozen=True, kw_only=True):
    """The switches that the SDK asks for again and again."""

    refresh_interval_sec: int = 300
    sample_cancel_enabled: bool = True
    sample_cancel_max_batch_size: int = 64


class AnyObject(Struct, kw_only=True):
    """A JSON object of any keys."""


def routes(live: Live, *, config: ClientConfig | None = None) -> list[Route]:
    """The endpoints, without their prefix."""
    told = config or _config(live)

    async def client_config(request: Request) -> Response:
        await read_body(request, live.limits)
        response = answer(told)
        response.headers["connection"] = "close"  # the SDK asks once, and never closes this connection itself
        return response

    async def dynamic_config(request: Request) -> Response:
        await read_body(request, live.limits)
        return answer(DynamicConfig())

    async def capabilities(request: Request) -> Response:
        del request
        return answer({"supported_models": [await _supported(live, *item) for item in live.served.models.items()]})

    async def telemetry(request: Request) -> Response:
        await read_json(request, AnyObject, live.limits)  # whatever it says, it stays here
        return answer({"status": "accepted"})

    async def healthz(request: Request) -> Response:
        del request
        return answer({"status": "ok"})

    async def auth_token(request: Request) -> Response:
        del request
        raise Refusal(404, "this server gives no tokens: its API keys are all there is")

    return [
        Route("/healthz", answered(healthz), methods=["GET"]),
        Route("/client/config", answered(client_config), methods=["POST"]),
        Route("/client/dynamic_config", answered(dynamic_config), methods=["POST"]),
        Route("/get_server_capabilities", answered(capabilities), methods=["GET"]),
        Route("/telemetry", answered(telemetry), methods=["POST"]),
        Route("/auth/token", answered(auth_token), methods=["POST"]),
    ]


def _config(live: Live) -> ClientConfig:
    limits = live.limits
    return ClientConfig(
        fwdbwd_max_chunk_len=min(ClientConfig().fwdbwd_max_chunk_len, limits.max_datums),
        fwdbwd_max_chunk_bytes_count=min(ClientConfig().fwdbwd_max_chunk_bytes_count, limits.max_body_bytes // 2),
    )


async def _supported(live: Live, name: str, reference: str) -> dict[str, Any]:
    facts = await live.facts(reference)
    context = None if facts is None else facts.context_length
    return {"model_name": name, "max_context_length": context, "trainable": True, "sampleable": True}
