"""Server-sent events: where they end, and what may be told between them."""

PING = b'event: ping\ndata: {"type": "ping"}\n\n'
_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


class Events:
    """Cuts a stream, whatever its chunks, between two events: half an event can neither be pinged nor followed."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> bytes:
        """The bytes up to the end of the last whole event, none twice and none left out."""
        if not self._rest and chunk.endswith(b"\n\n"):
            return chunk
        start = max(len(self._rest) - 3, 0)  # an end may have begun there
        self._rest += chunk
        end = max(_after(self._rest, mark, start) for mark in _ENDS)
        whole = bytes(self._rest[:end])
        del self._rest[:end]
        return whole

    def rest(self) -> bytes:
        """What no end followed."""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest


def _after(text: bytearray, mark: bytes, start: int) -> int:
    at = text.rfind(mark, start)
    return at + len(mark) if at >= 0 else 0


class Splitter:
    """Cuts a stream of bytes, whatever its chunks, into its events."""

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._name = b""
        self._data: list[bytes] = []

    @property
    def between(self) -> bool:
        """Whether all that was fed are whole events."""
        return not self._line and not self._data and not self._name

    def feed(self, chunk: bytes) -> list[tuple[bytes, bytes]]:
        """Name and data of every event that `chunk` completes."""
        if not chunk:
            return []
        if b"\n" not in chunk and b"\r" not in chunk and not (self._line and self._line[-1].endswith(b"\r")):
            self._line.append(chunk)
            return []
        lines = b"".join((*self._line, chunk)).splitlines(keepends=True)
        self._line = [] if lines[-1].endswith(b"\n") else [lines.pop()]
        found: list[tuple[bytes, bytes]] = []
        for line in lines:
            text = line.rstrip(b"\r\n")
            if text.startswith(b"data:"):
                self._data.append(text[5:].strip())
            elif text.startswith(b"event:"):
                self._name = text[6:].strip()
            elif not text:
                if self._data:
                    found.append((self._name, b"\n".join(self._data)))
                self._name, self._data = b"", []
        return found
