"""The Anthropic Messages API, or anything that speaks it."""

from dataclasses import dataclass

from shared.adapters.http_client import BrokenOff, NotConnected, Origin, Response
from shared.adapters.provider_credentials import Credential
from shared.core.errors import Unavailable
from shared.core.log import Log
from shared.llm.upstream import Incoming, NoAnswer, NotSent, Outgoing

log = Log(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: to connect, until a stream begins, until another answer begins, of silence within an answer."""

    connect: float = 10
    first_byte: float = 120
    answer: float = 600
    idle: float = 300


class AnthropicUpstream:
    """`base_url` may carry a path (`https://host/anthropic`); `/v1/...` goes behind it."""

    def __init__(self, base_url: str, credential: Credential, patience: Patience | None = None) -> None:
        self._base = base_url.rstrip("/")
        self._credential = credential
        self._patience = patience or Patience()
        self._origin: Origin | None = None

    async def send(self, request: Outgoing) -> Incoming:
        response = await self._send(request)
        if 300 <= response.status < 400:
            response.close()
            raise NotSent(
                f"The model service at {self._base} redirects. Set ANTHROPIC_BASE_URL, or base_url in LLM_ROUTES, "
                "to its final address."
            )
        return _Answer(response, self._patience.idle)

    async def close(self) -> None:
        if self._origin:
            await self._origin.close()
            self._origin = None

    async def _send(self, request: Outgoing) -> Response:
        target = f"{request.path}?{request.query}" if request.query else request.path
        headers = [*request.headers, *await self._credential()]
        try:
            if self._origin is None:
                self._origin = Origin(self._base, self._patience.connect)
            seconds = self._patience.first_byte if request.streamed else self._patience.answer
            return await self._origin.send(request.method, target, headers, request.body, seconds)
        except ValueError as error:
            raise NotSent(f"The model service at {self._base} cannot be asked: {error}") from error
        except NotConnected as error:
            log.warning("llm.not_connected", reason=str(error))
            raise NotSent(
                f"The model service at {self._base} cannot be reached. Try again in a moment.", retry_after=2
            ) from error
        except BrokenOff as error:
            raise NoAnswer(f"The model service at {self._base} did not answer. Try again in a moment.") from error


class _Answer:
    def __init__(self, response: Response, idle: float) -> None:
        self.status, self.headers, self.close = response.status, response.headers, response.close
        self._response, self._idle = response, idle

    async def read(self, quiet: float | None = None) -> bytes | None:
        try:
            data = await self._response.read(min(quiet or self._idle, self._idle))
        except BrokenOff as error:
            raise Unavailable("The model service broke off its answer. Try again.") from error
        if data is None and self._response.silence >= self._idle:
            raise Unavailable("The model service fell silent within its answer. Try again.")
        return data
