"""What comes to a gRPC port that is no call, or half of one: garbage, other protocols, odd frames, wrong lengths."""

import contextlib
import socket
import struct
from collections.abc import Sequence

import grpc
import h2.settings
import hpack
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame
from hypothesis import strategies as st

from tests.rpcs import BESIDE, OURS

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WAITS = "nothing: it waits for the rest"
ENDS = "the end of the connection"
_PATIENCE_SECONDS = 5.0
_PING = PingFrame(0, b"are you?")
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}

_PATHS = st.sampled_from([*(rpc.path for rpc in (*OURS, *BESIDE)), "/", "", "*", "/nearvote.v1.No/Such", "/a/b/c", "x"])
_HEADERS = st.lists(
    st.sampled_from(
        [
            ("grpc-timeout", "1S"),
            ("grpc-timeout", "-1S"),
            ("grpc-timeout", "99999999999999H"),
            ("grpc-timeout", "soon"),
            ("grpc-encoding", "gzip"),
            ("grpc-encoding", "no-such"),
            ("grpc-accept-encoding", ",,,"),
            ("authorization", "Bearer " + "x" * 3_000),
            ("x-request-id", "\x7f" * 300),
            ("traceparent", "00-zz-zz-zz"),
            ("a-bin", "not base64!"),
            ("content-type", "text/html"),
            ("content-length", "5"),
            (":path", "/again"),
            ("connection", "close"),
            ("x", "y" * 9_000),
        ]
    ),
    max_size=3,
)


def _framed(flag: int, length: int, body: bytes) -> bytes:
    """A message as gRPC sends it, or as it should not."""
    return struct.pack(">BI", flag, length) + body


@st.composite
def _calls(draw: st.DrawFn) -> bytes:
    """A stream with the headers of a call, odd ones among them, and a body that may lie about itself."""
    required = [
        (":method", draw(st.sampled_from(["POST", "POST", "POST", "GET", "BREW"]))),
        (":scheme", "http"),
        (":path", draw(_PATHS)),
        (":authority", "odd.example"),
        ("te", "trailers"),
        ("content-type", draw(st.sampled_from(["application/grpc", "application/grpc", "application/json"]))),
    ]
    left_out = draw(st.sampled_from([None, None, None, *range(len(required))]))
    headers = [one for i, one in enumerate(required) if i != left_out] + draw(_HEADERS)
    flags = ["END_HEADERS"] if draw(st.integers(0, 9)) else []
    frames: list[Frame] = [HeadersFrame(1, hpack.Encoder().encode(headers), flags=flags)]
    body = draw(st.binary(max_size=60))
    length = draw(st.sampled_from([len(body), len(body), len(body) + 1, 0, 2**31, 2**32 - 1]))
    message = _framed(draw(st.sampled_from([0, 0, 0, 1, 2, 255])), length, body)
    ends = draw(st.booleans())
    frames.append(DataFrame(1, message, flags=["END_STREAM"] if ends else []))
    if draw(st.integers(0, 4)) == 0:
        frames.append(RstStreamFrame(1, 8))
    return b"".join(frame.serialize() for frame in frames)


@st.composite
def _frames(draw: st.DrawFn) -> bytes:
    """One frame of any type, its length right or not."""
    payload = draw(st.binary(max_size=40))
    length = draw(st.sampled_from([len(payload), len(payload), 0, len(payload) + 5, 2**24 - 1]))
    kind, flags = draw(st.integers(0, 12)), draw(st.integers(0, 255))
    stream = draw(st.sampled_from([0, 1, 2, 3, 2**31 - 1, 2**32 - 1]))
    return struct.pack(">I", length)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


_SETTINGS = SettingsFrame(0, {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1}).serialize()

OPENINGS: st.SearchStrategy[bytes] = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [
            b"",
            b"GET / HTTP/1.1\r\nHost: odd.example\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 300,  # how TLS begins
            b"SSH-2.0-OpenSSH_9.0\r\n",
            PREFACE[:10],
            PREFACE,
            b"\xff" * 2_000,
        ]
    ),
    st.binary(max_size=100).map(lambda rest: PREFACE + rest),
    st.lists(_frames(), min_size=1, max_size=5).map(lambda frames: PREFACE + _SETTINGS + b"".join(frames)),
    _calls().map(lambda call: PREFACE + _SETTINGS + call),
    _calls().map(lambda call: PREFACE + _SETTINGS + call),
)


def answer_to(address: str, opening: bytes, *, closes: bool) -> str:
    """What comes back on a connection of its own: the status of a call, an error of HTTP/2, or nothing but its end.

    Args:
        address: Host and port.
        opening: What is sent.
        closes: Whether our half is closed after it; else a ping asks whether the other side is still there.
    """
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), _PATIENCE_SECONDS) as connection:
        try:
            connection.sendall(opening)
            if closes:
                connection.shutdown(socket.SHUT_WR)
            elif opening.startswith(PREFACE):
                connection.sendall(_PING.serialize())
            return _read(connection)
        except TimeoutError:
            return WAITS
        except OSError:  # it is gone already
            return ENDS


def _read(connection: socket.socket) -> str:
    seen, headers = b"", hpack.Decoder()
    while True:
        while len(seen) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(seen[:9]))
            if len(seen) < 9 + length:
                break
            frame.parse_body(memoryview(seen[9 : 9 + length]))
            seen = seen[9 + length :]
            said = _said_by(frame, headers)
            if said:
                return said
        piece = connection.recv(65_536)
        if not piece:
            return ENDS
        seen += piece


def _said_by(frame: Frame, headers: hpack.Decoder) -> str | None:
    if isinstance(frame, GoAwayFrame):
        return f"GOAWAY {frame.error_code}"
    if isinstance(frame, RstStreamFrame):
        return f"RST_STREAM {frame.error_code}"
    if isinstance(frame, PingFrame) and "ACK" in frame.flags:
        return WAITS
    if isinstance(frame, HeadersFrame):
        fields = {str(one[0]): str(one[1]) for one in headers.decode(frame.data)}
        if "grpc-status" in fields:
            return _CODES[int(fields["grpc-status"])]
        if fields.get(":status", "200") != "200":
            return f"HTTP {fields[':status']}"
    return None


def half_open(address: str, count: int) -> Sequence[socket.socket]:
    """So many connections on which nothing, or half of a beginning, is ever sent."""
    host, _, port = address.rpartition(":")
    opened = []
    for i in range(count):
        connection = socket.create_connection((host, int(port)), _PATIENCE_SECONDS)
        with contextlib.suppress(OSError):
            connection.sendall((b"", PREFACE[:7], PREFACE, PREFACE + _SETTINGS)[i % 4])
        opened.append(connection)
    return opened
