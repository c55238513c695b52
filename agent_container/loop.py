"""The conversation with the model: turn by turn, tools in between, until it finishes or a limit ends it."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import anthropic
import httpx2
from anthropic import AsyncAnthropic
from anthropic.types.beta import BetaMessage, BetaMessageParam, BetaTextBlockParam, BetaToolUseBlock

from agent_container.api import Platform, RunContext
from agent_container.config import Config
from agent_container.events import EventSender
from agent_container.git import Checkout
from agent_container.prompt import comment_text, first_message, system_prompt
from agent_container.redact import Redactor
from agent_container.tools import Finish, RecordedTool, Toolbox

log = logging.getLogger(__name__)

_MAX_TOKENS = 16_000
_DELAYS = (1.0, 3.0, 8.0, 15.0, 30.0)
_NUDGES = 2
_NUDGE = "You ended your turn without calling `finish`. If the work is done or blocked, call `finish`; else go on."
_CUT_OFF = "Your reply was cut off because it was too long. Go on in smaller steps."


class LoopEnded(Exception):
    """The run cannot go on; the text is the one sentence people read."""


class AgentLoop:
    """One conversation. `turns` counts the model's answers."""

    def __init__(
        self,
        config: Config,
        context: RunContext,
        checkout: Checkout,
        events: EventSender,
        platform: Platform,
        redactor: Redactor,
    ) -> None:
        self.turns = 0
        self._tokens = 0
        self._nudges = 0
        self._context = context
        self._events = events
        self._system = system_prompt(context, checkout.continued)
        self._history: list[BetaMessageParam] = [{"role": "user", "content": first_message(context)}]
        self._toolbox = Toolbox(checkout, config.command_env, events, platform)
        self._calls: list[BetaToolUseBlock] = []
        self._said_this_turn: set[str] = set()
        self._tools = [RecordedTool(tool, self._calls, events, redactor) for tool in self._toolbox.tools()]
        self._client = AsyncAnthropic(
            base_url=f"{config.api_url}/api", auth_token=config.run_token, api_key=None, max_retries=4
        )

    async def run(self) -> Finish:
        """Until the model calls `finish`. Raises LoopEnded."""
        failures = 0
        async with self._client:
            while self._toolbox.finished is None:
                before = self.turns
                try:
                    await self._converse()
                except (anthropic.APIError, httpx2.TransportError) as error:
                    failures = 0 if self.turns > before else failures
                    await self._recover(error, failures)
                    failures += 1
            return self._toolbox.finished

    async def _converse(self) -> None:
        """Turns until the model stops asking for tools, or a limit."""
        runner = self._client.beta.messages.tool_runner(
            model=self._context.model,
            max_tokens=_MAX_TOKENS,
            system=self._system,
            messages=list(self._history),
            tools=self._tools,
            cache_control={"type": "ephemeral"},
            stream=True,
            thread=False,
        )
        try:
            async for stream in runner:
                async for event in stream:
                    if event.type == "content_block_stop" and event.content_block.type == "text":
                        await self._say(event.content_block.text)
                message = await stream.get_final_message()
                await self._record(message)
                if message.stop_reason != "tool_use":
                    self._answer_end(message)
                    self._check_limits()
                    continue
                self._calls[:] = [block for block in message.content if block.type == "tool_use"]
                response = await runner.generate_tool_call_response()
                if response is None:
                    raise LoopEnded("The model asked for a tool without naming one.")
                await self._take_in(message, response)
                if self._toolbox.finished:
                    return
                self._check_limits()
        finally:
            await runner.close()

    async def _say(self, text: str) -> None:
        """A turn that was broken off and repeated is heard once."""
        if text not in self._said_this_turn:
            self._said_this_turn.add(text)
            await self._events.emit("text", text=text)

    async def _record(self, message: BetaMessage) -> None:
        self._said_this_turn.clear()
        usage = {
            "input_tokens": message.usage.input_tokens,
            "output_tokens": message.usage.output_tokens,
            "cache_read_tokens": message.usage.cache_read_input_tokens or 0,
            "cache_write_tokens": message.usage.cache_creation_input_tokens or 0,
        }
        self.turns += 1
        self._tokens += sum(usage.values())
        log.info("turn %d: %s, %d tokens so far", self.turns, message.stop_reason, self._tokens)
        await self._events.emit("turn", turn=self.turns, stop_reason=message.stop_reason, usage=usage)

    async def _take_in(self, message: BetaMessage, response: Any) -> None:
        """Adds a turn and its tool results to the history; comments of people go along with the results."""
        known = {tool.name for tool in self._tools}
        for block in self._calls:
            if block.name not in known:
                await self._events.emit("tool_use", tool_use_id=block.id, name=block.name, input=block.input)
                await self._events.emit(
                    "tool_result",
                    tool_use_id=block.id,
                    name=block.name,
                    is_error=True,
                    output="There is no such tool.",
                    duration_ms=0,
                )
        response["content"].extend(self._comments())
        self._history += [message.to_param(), response]

    def _answer_end(self, message: BetaMessage) -> None:
        """What to say to a model that stopped without finishing."""
        if message.stop_reason == "refusal":
            raise LoopEnded("The model refused to work on this card.")
        if message.stop_reason == "model_context_window_exceeded":
            raise LoopEnded("The conversation became longer than the model can read.")
        if message.content:
            self._history.append(message.to_param())
        if message.stop_reason == "pause_turn":
            return
        comments = self._comments()
        if message.stop_reason == "max_tokens":
            note = _CUT_OFF
        else:
            note = _NUDGE
            self._nudges += 0 if comments else 1
            if self._nudges > _NUDGES:
                raise LoopEnded("The model stopped without saying whether the card is done.")
        results: list[Any] = [
            {"type": "tool_result", "tool_use_id": block.id, "content": "Not run.", "is_error": True}
            for block in message.content
            if block.type == "tool_use"
        ]
        self._history.append({"role": "user", "content": [*results, *comments, {"type": "text", "text": note}]})

    def _comments(self) -> list[BetaTextBlockParam]:
        return [{"type": "text", "text": comment_text(comment)} for comment in self._events.take_comments()]

    def _check_limits(self) -> None:
        limits = self._context.limits
        if self.turns >= limits.turns:
            raise LoopEnded(f"Stopped after {self.turns} turns, the limit of this run.")
        if self._tokens >= limits.tokens:
            raise LoopEnded(f"Stopped after {self._tokens:,} tokens; the limit of this run is {limits.tokens:,}.")

    async def _recover(self, error: anthropic.APIError | httpx2.TransportError, failures: int) -> None:
        """Waits where another try can help, else raises LoopEnded."""
        sentence = _lasting(error)
        if sentence is None and failures >= len(_DELAYS):
            sentence = f"The model did not answer: {_said(error)}"
        if sentence:
            raise LoopEnded(sentence) from error
        log.warning("model call failed (%s), trying again", type(error).__name__)
        await asyncio.sleep(_DELAYS[failures])


def _lasting(error: Exception) -> str | None:
    """The sentence for an error that trying again cannot cure."""
    status = getattr(error, "status_code", None)
    if status is None or status in (408, 409, 429) or status >= 500 or status == 200:
        return None
    if status == 402:
        return _said(error)
    if status in (401, 403):
        return f"The platform refused the call to the model: {_said(error)}"
    if status == 404:
        return f"The model is not available: {_said(error)}"
    return f"The model did not accept the request: {_said(error)}"


def _said(error: Exception) -> str:
    """The message inside an error, in the Messages API's form or as problem+json."""
    body = getattr(error, "body", None)
    if isinstance(body, Mapping):
        inner = body.get("error")
        for text in (inner.get("message") if isinstance(inner, Mapping) else None, body.get("detail")):
            if text:
                return str(text)
    return str(error) or type(error).__name__
