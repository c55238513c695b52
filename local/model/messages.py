"""The request of the Messages API: what is checked of it, with the errors a client of the real API knows."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from local.model.errors import ApiError

type Json = dict[str, Any]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="allow")


class Message(_Lenient):
    role: Literal["user", "assistant", "system"]
    content: str | list[Json]

    @model_validator(mode="after")
    def _blocks_are_whole(self) -> Self:
        if isinstance(self.content, str):
            if not self.content and self.role != "assistant":
                raise ValueError(f"{self.role} messages must have non-empty content")
            return self
        for at, block in enumerate(self.content):
            for name, kind in _REQUIRED.get(block.get("type"), {"type": str}).items():
                if not isinstance(block.get(name), kind):
                    raise ValueError(f"content.{at}.{name}: Field required")
            if block["type"] == "text" and not block["text"]:
                raise ValueError(f"content.{at}: text content blocks must be non-empty")
        return self


_REQUIRED: dict[Any, dict[str, type]] = {
    "text": {"text": str},
    "tool_use": {"id": str, "name": str, "input": dict},
    "tool_result": {"tool_use_id": str},
}


class Tool(_Lenient):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]


class CountRequest(_Lenient):
    """What `/v1/messages/count_tokens` reads; the rest of a request is accepted and has no effect."""

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[Message], Field(min_length=1)]
    system: str | list[Json] = ""
    tools: list[Tool] = []
    tool_choice: Json | None = None
    cache_control: Json | None = None

    @model_validator(mode="after")
    def _conversation_is_whole(self) -> Self:
        names = [tool.name for tool in self.tools]
        if len(names) != len(set(names)):
            raise ValueError("tools: Tool names must be unique.")
        if self.messages[0].role == "assistant":
            raise ValueError("messages: first message must use the user role")
        for at, message in enumerate(self.messages):
            _check_pairs(at, message, self.messages[at - 1] if at else None)
        _check_answered(self.messages)
        return self

    def offered(self) -> frozenset[str]:
        """Names of the tools that may be called in this turn."""
        if self.tool_choice and self.tool_choice.get("type") == "none":
            return frozenset()
        return frozenset(tool.name for tool in self.tools)


class MessageRequest(CountRequest):
    max_tokens: Annotated[int, Field(ge=1)]
    stream: bool = False
    stop_sequences: list[str] = []


def parse[R: CountRequest](kind: type[R], body: bytes) -> R:
    """Raises ApiError 400 that names the field, as the real API does."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise ApiError(400, f"The request body is not valid JSON: {first['msg']}") from None
        where = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise ApiError(400, f"{where}: {reason}" if where else reason) from None


def text_of(content: Any) -> str:
    """The text of a tool result's content, which may be absent, a string or blocks."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(str(block["text"]) for block in content if isinstance(block, dict) and "text" in block)


def _ids(message: Message | None, kind: str, name: str) -> list[str]:
    if message is None or isinstance(message.content, str):
        return []
    return [block[name] for block in message.content if block["type"] == kind]


def _check_pairs(at: int, message: Message, previous: Message | None) -> None:
    called = _ids(previous, "tool_use", "id")
    for identifier in _ids(message, "tool_result", "tool_use_id"):
        if identifier not in called:
            raise ValueError(
                f"messages.{at}: unexpected `tool_use_id` found in `tool_result` blocks: {identifier}. Each "
                "`tool_result` block must have a corresponding `tool_use` block in the previous message."
            )


def _check_answered(messages: list[Message]) -> None:
    for at, message in enumerate(messages):
        answer = messages[at + 1] if at + 1 < len(messages) else None
        missing = set(_ids(message, "tool_use", "id")) - set(_ids(answer, "tool_result", "tool_use_id"))
        if missing:
            raise ValueError(
                f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(sorted(missing))}. Each `tool_use` block must have a corresponding `tool_result` block in "
                "the next message."
            )
