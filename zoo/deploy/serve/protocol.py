"""A connection with limits: on the time and the size of a request's head, on the pace of its body, on its end."""

from __future__ import annotations

import enum
import http
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from zoo.deploy.serve.refused import error_body, error_headers

if TYPE_CHECKING:
    import asyncio

    from zoo.deploy.serve.metrics import Metrics
    from zoo.deploy.serve.settings import Settings

MOST_HEAD_BYTES = 65536
LINGER_SECONDS, LINGER_BYTES = 1.0, 64 * 2**20
"""For which a client may go on sending after it was refused, so that it reads why instead of finding a reset."""
LAST_SECONDS = 0.5
"""For a request that was on its way when the server said goodbye."""


@dataclass
class House:
    """What the connections of a process share."""

    settings: Settings
    metrics: Metrics
    draining: bool = False


class Phase(enum.Enum):
    """What of a request is being read."""

    NOTHING = 0
    HEAD = 1
    BODY = 2


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's own, with a clock that runs while a request is not complete."""

    def __init__(
        self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        super().__init__(config=config, server_state=server_state, app_state=app_state, _loop=_loop)
        self._house: House = app_state["house"]
        self._phase, self._timed = Phase.NOTHING, Phase.NOTHING
        self._clock: asyncio.TimerHandle | None = None
        self._begun, self._bytes = 0.0, 0
        self._lingering = False
        self._waiting: set[asyncio.Future[Any]] = set()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Gentle(transport, self))  # type: ignore[arg-type]
        if len(self.connections) > self._house.settings.max_connections:
            self._phase = Phase.HEAD
            self._refuse(503, "too many connections; come again", "connections")
        else:
            self._time(Phase.HEAD)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        for future in list(self._waiting):
            future.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            self._bytes += len(data)
            if self._bytes > LINGER_BYTES:
                self.transport.abort()
            return
        before = self._phase
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._phase is Phase.NOTHING and before is Phase.NOTHING and not self._busy:
            # A whole request would be in work now; this was empty lines, which stop uvicorn's own clock.
            self._time(Phase.HEAD)
        elif self._phase is Phase.NOTHING:
            self._stop_clock()
        elif self._phase is not self._timed:
            self._time(self._phase)
        self._bytes += len(data)
        if self._timed is Phase.HEAD and self._bytes > MOST_HEAD_BYTES:
            self._refuse(431, f"the head is larger than {MOST_HEAD_BYTES} bytes", "head bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._phase = Phase.HEAD
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope["zoo.waiting"] = self._waiting

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._phase = Phase.BODY
        if self._house.draining:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._phase = Phase.NOTHING
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._phase is Phase.BODY and not self.transport.is_closing():
            # It was answered before its end; what is still to come is of no use.
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg, "syntax")

    def drain(self) -> None:
        """Let the answer that is being made be the last one of this connection."""
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """End the connection: after its answer, or when nothing has come for a moment."""
        if self._busy or self._phase is not Phase.NOTHING:
            self.drain()
        else:
            # What the client has sent may not have been read yet.
            self.loop.call_later(LAST_SECONDS, self._close_idle)

    @property
    def _busy(self) -> bool:
        """Whether an answer is being made."""
        return self.cycle is not None and not self.cycle.response_complete

    def _close_idle(self) -> None:
        if not self._busy and self._phase is Phase.NOTHING and not self.transport.is_closing():
            self.transport.close()

    def _time(self, phase: Phase) -> None:
        """Start the clock of a phase, unless it runs."""
        if self._timed is phase:
            return
        self._stop_clock()
        settings = self._house.settings
        seconds = settings.head_seconds if phase is Phase.HEAD else settings.body_seconds
        self._timed, self._begun, self._bytes = phase, self.loop.time(), 0
        self._clock = self.loop.call_later(seconds, self._late)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
        self._clock, self._timed = None, Phase.NOTHING

    def _late(self) -> None:
        settings = self._house.settings
        if self._timed is Phase.HEAD:
            if self._busy:  # with the request before it
                self._clock = self.loop.call_later(settings.head_seconds, self._late)
            else:
                self._refuse(408, f"the head was not complete within {settings.head_seconds:g} s", "head seconds")
            return
        left = self._begun + settings.body_seconds + self._bytes / settings.body_rate - self.loop.time()
        if left > 0:
            self._clock = self.loop.call_later(left, self._late)
        else:
            self._refuse(408, f"the body was not complete within {settings.body_seconds:g} s", "body seconds")

    def _refuse(self, status: int, text: str, limit: str) -> None:
        """Answer a request that never reached the application, and end the connection."""
        self._house.metrics.cut.labels(limit).inc()
        self._stop_clock()
        if self._busy:
            # The application is waiting for the body, and finds that there is none.
            started = self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if started:
                self.transport.close()
                return
        body = error_body(text)
        headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
        head = f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in {**headers, **error_headers(status)}.items())
        self.transport.write(head.encode() + b"\r\n" + body)
        self.transport.close()

    def linger(self) -> bool:
        """Tell whether the client may still be sending, and if so stop listening to what it says."""
        unread = self._phase is not Phase.NOTHING and not self._lingering
        if unread:
            self._lingering, self._bytes = True, 0
            self._stop_clock()
            self.flow.resume_reading()
        return unread


class Gentle:
    """A transport that says goodbye before it closes on a client that is still sending.

    Closing at once would answer the rest with a reset, which also throws away what the client has not read yet.
    """

    def __init__(self, transport: asyncio.Transport, protocol: LimitedProtocol) -> None:
        self._transport, self._protocol, self._closing = transport, protocol, False
        self.write = transport.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Tell whether nothing more is to be written."""
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        """Close, after a moment if the client is still sending."""
        self._closing = True
        if not self._transport.is_closing() and self._transport.can_write_eof() and self._protocol.linger():
            self._transport.write_eof()
            self._protocol.loop.call_later(LINGER_SECONDS, self._transport.close)
        else:
            self._transport.close()
