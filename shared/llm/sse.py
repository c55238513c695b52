"""Server-sent events: where they end, and what may be told between them."""

PING = b'event: ping\ndata: {"type": "ping"}\n\n'
_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


class Events:
    """Cuts a stream, whatever its chunks, between two events: half an event can neither be pinged nor followed."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """The bytes up to the end of the last whole event, none twice and none left out."""
        if not self._rest and chunk.endswith(b"\n\n"):
            return chunk
        seen = self._rest + chunk
        end = max(_after(seen, mark) for mark in _ENDS)
        self._rest = seen[end:]
        return seen[:end]

    def rest(self) -> bytes:
        """What no end followed."""
        rest, self._rest = self._rest, b""
        return rest


def _after(text: bytes, mark: bytes) -> int:
    at = text.rfind(mark)
    return at + len(mark) if at >= 0 else 0


class Splitter:
    """Cuts a stream of bytes, whatever its chunks, into the data of its events."""

    def __init__(self) -> None:
        self._line = b""
        self._data: list[bytes] = []

    @property
    def between(self) -> bool:
        """Whether all that was fed are whole events."""
        return not self._line and not self._data

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event that `chunk` completes."""
        lines = (self._line + chunk).splitlines(keepends=True)
        self._line = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        found: list[bytes] = []
        for line in lines:
            text = line.rstrip(b"\r\n")
            if text.startswith(b"data:"):
                self._data.append(text[5:].strip())
            elif not text and self._data:
                found.append(b"\n".join(self._data))
                self._data = []
        return found
