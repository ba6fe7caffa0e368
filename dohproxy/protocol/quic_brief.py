"""A QUIC connection for streams that are brief: a frame there, and mostly a frame back.

aioquic has a stream for each, of a sender, a receiver and four sets of ranges, and goes through all of them with every packet.
Here what is asked waits as the frame that it will be, and an answer that is one frame is handed on as it is; aioquic gets a
stream where something else comes of it: an answer in pieces, a reset, a question that is given up. Packets of an established
connection, with answers and acknowledgements in them, are taken without the questions that aioquic asks of all others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Final

from aioquic._buffer import Buffer, BufferReadError
from aioquic._crypto import CryptoError
from aioquic.quic.connection import (
    QuicConnection,
    QuicConnectionError,
    QuicConnectionState,
    QuicReceiveContext,
)
from aioquic.quic.events import StreamDataReceived
from aioquic.quic.packet import QuicFrameType, decode_packet_number
from aioquic.quic.packet_builder import QuicDeliveryState, QuicSentPacket
from aioquic.quic.recovery import MAX_ACK_RANGES
from aioquic.quic.stream import QuicStream, StreamFinishedError
from aioquic.tls import Epoch

_WHOLE: Final = QuicFrameType.STREAM_BASE | 3
"""A STREAM frame with a length that is all of its stream (RFC 9000 19.8)."""
_LONG, _SPIN, _RESERVED = 0x80, 0x20, 0x18
"""Of the first octet of a packet (RFC 9000 17.2, 17.3.1)."""
_SAMPLED: Final = 20
"""Octets behind the connection ID, of which the last sixteen hide the others (RFC 9001 5.4.2)."""
_CONNECTED: Final = QuicConnectionState.CONNECTED
_FIN, _LENGTH, _OFFSET = 1, 2, 4
_MOST: Final = 1024
"""Octets that fit into a packet whatever else is in it."""
_ACK_DELAY: Final = 0.02
"""Seconds; less than the 25 ms that aioquic announces."""
_MOST_UNACKNOWLEDGED: Final = 1
"""Packets: the second is acknowledged at once (RFC 9000 13.2.2), or a server whose window is small would wait for that."""


_Question = tuple[int, bytes, int]
"""A stream, the frame that is, or was, to be sent on it, and how many octets count for flow control."""


class BriefStreams(QuicConnection):
    """A client's end. What is overridden are methods with a leading underscore: see quic_client.py."""

    def __init__(self, **options: Any) -> None:
        self._brief: dict[int, int] = {}
        """How many octets have left on the streams that are no more than a question that waits for its answer."""
        self._unsent: deque[_Question] = deque()
        self._took_at = -1.0
        """When ordinary packets came last: many do at once."""
        self._space: Any = None
        self._crypto: Any = None
        self._context: QuicReceiveContext | None = None
        """Of the packets that came last."""
        self._unacknowledged = 0
        """How many packets have come that ask for it."""
        self._stirred = True
        """Whether there may be more to send than questions and acknowledgements."""
        super().__init__(**options)
        self._on_loss = self._loss._on_packets_lost
        self._loss._on_packets_lost = self._lost  # type: ignore[method-assign, assignment]

    def ask(self, data: bytes) -> int:
        """Begin a stream, with all that it carries there: its number. Only while there are streams left."""
        stream, size = self._local_next_stream_id_bidi, len(data)
        if not self._handshake_complete or size > _MOST or size > self._remote_max_stream_data_bidi_remote or stream >> 30:
            self.send_stream_data(stream, data, end_stream=True)
            return stream
        self._local_next_stream_id_bidi = stream + 4
        self._brief[stream] = 0
        head = _WHOLE << 48 | 1 << 47 | stream << 16 | 1 << 14 | size  # with numbers of four and two octets (RFC 9000 16)
        self._unsent.append((stream, head.to_bytes(7) + data, size))
        return stream

    def give_up(self, stream: int, code: int) -> None:
        """Nobody wants what this stream brings."""
        if stream in self._brief:
            self._unfold(stream, writable=True)
        if stream in self._streams:
            self.stop_stream(stream, code)
            self.reset_stream(stream, code)

    def _unfold(self, stream: int, *, writable: bool) -> None:
        """From now on it is a stream of aioquic's, on which we send nothing more, unless it is a reset."""
        found = self._streams[stream] = QuicStream(
            stream_id=stream, max_stream_data_local=self._local_max_stream_data_bidi_local, writable=writable
        )
        found.sender.highest_offset = self._brief.pop(stream)
        self._streams_queue.append(found)

    def may_wait(self, now: float) -> bool:
        """Whether nothing is to leave but an acknowledgement that is not due: questions may soon take it along."""
        if self._stirred or self._unsent or self._unacknowledged > _MOST_UNACKNOWLEDGED:
            return False
        due = self._spaces[Epoch.ONE_RTT].ack_at
        return (due is None or now < due) and not any(map(_has_more, self._streams_queue))

    # What goes

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """All that there is to send, an acknowledgement too."""
        for space in self._loss.spaces:
            if space.ack_at is not None:
                space.ack_at = min(space.ack_at, now)
        self._stirred, self._unacknowledged = False, 0
        return super().datagrams_to_send(now)

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        """Not of a question that is brief."""
        self._stirred = True
        super().send_stream_data(stream_id, data, end_stream)

    def send_ping(self, uid: int) -> None:
        """Have the server say something."""
        self._stirred = True
        super().send_ping(uid)

    def handle_timer(self, now: float) -> None:
        """Time has passed."""
        self._stirred = True
        super().handle_timer(now)

    def _write_connection_limits(self, builder: Any, space: Any) -> None:
        """Once in every packet, ahead of what streams have to say."""
        super()._write_connection_limits(builder, space)
        if self._unsent:
            self._write_questions(builder)

    def _write_questions(self, builder: Any) -> None:
        """As many as fit, as one frame to aioquic: it has a word to say about each."""
        room = min(builder.remaining_flight_space, builder.remaining_buffer_space)
        credit = self._remote_max_data - self._remote_max_data_used
        unsent, brief, frames, asked = self._unsent, self._brief, list[bytes](), list[_Question]()
        while unsent:
            question = unsent[0]
            stream, frame, size = question
            sent = brief.get(stream)
            if sent is not None:
                if len(frame) > room or (not sent and size > credit):
                    break
                if not sent:
                    brief[stream] = size
                    credit -= size
                room -= len(frame)
                frames.append(frame)
                asked.append(question)
            unsent.popleft()
        if frames:
            self._remote_max_data_used = self._remote_max_data - credit
            octets = b"".join(frames)
            builder.start_frame(_WHOLE, len(octets), self._on_delivery, (asked,)).push_bytes(octets[1:])

    def _on_delivery(self, delivery: QuicDeliveryState, asked: list[_Question]) -> None:
        """Those that were lost are sent again, unless their answers have come all the same."""
        if delivery is not QuicDeliveryState.ACKED:
            self._unsent.extend(question for question in asked if question[0] in self._brief)

    def _lost(self, *, packets: Collection[QuicSentPacket], **others: Any) -> None:
        """What was in them besides questions is to be sent again as well."""
        if any(packet.is_ack_eliciting for packet in packets):
            self._stirred = True
        self._on_loss(packets=packets, **others)

    # What comes

    def _take_packet(self, data: bytes, now: float) -> bool:
        """Take a datagram that is an ordinary packet of an established connection, as aioquic would: whether it was one."""
        id = data[1 : 1 + len(self.host_cid)]
        if not self._handshake_confirmed or data[0] & _LONG or not self._is_ours(id):
            return False
        if self._state is not _CONNECTED or self._close_pending:
            return False
        space = self._space or self._established()
        try:
            first, number, payload = self._opened(data, 1 + len(id))
        except CryptoError:
            return False
        if number in space.received_packets or first & _RESERVED or not payload:
            return False
        if number > space.expected_packet_number:
            space.expected_packet_number = number + 1
        if number > self._spin_highest_pn:
            self._spin_bit, self._spin_highest_pn = not first & _SPIN, number
        try:
            owes = self._take_payload(payload, id, now)
        except QuicConnectionError as error:
            self._stirred = True
            self.close(error.error_code, error.frame_type, error.reason_phrase)
        if self._state is _CONNECTED and not self._close_pending:
            if now != self._took_at:
                self._took_at = now
                self._close_at = now + self._idle_timeout()
            self._ack_eliciting_sent_since_receipt = False
            self._note(space, number, now, owes)
        return True

    def _established(self) -> Any:
        """The packets of an established connection, found once: an enumeration is a slow key."""
        self._space, self._crypto = self._spaces[Epoch.ONE_RTT], self._cryptos[Epoch.ONE_RTT].recv
        return self._space

    def _opened(self, data: bytes, at: int) -> tuple[int, int, bytes]:
        """First octet, number and payload of a packet, whose number is hidden there. Raises CryptoError, for new keys too."""
        crypto = self._crypto
        header, cut = crypto.hp.remove(data[: at + _SAMPLED], at)
        if header[0] >> 2 & 1 != crypto.key_phase:
            raise CryptoError("for aioquic, which knows how keys are changed")
        number = decode_packet_number(cut, 8 * (len(header) - at), self._space.expected_packet_number)
        return header[0], number, crypto.aead.decrypt(data[len(header) :], header, number)

    def _is_ours(self, id: bytes) -> bool:
        """Whether a connection ID is one that we gave out: a server may go through them."""
        for one in self._host_cids:  # noqa: SIM110 -- faster than any()
            if one.cid == id:
                return True
        return False

    def _note(self, space: Any, number: int, now: float, owes: bool) -> None:
        """A packet has come, which owes an acknowledgement or not."""
        if number > space.largest_received_packet:
            space.largest_received_packet, space.largest_received_time = number, now
        space.ack_queue.add(number)
        space.received_packets.add(number)
        if len(space.ack_queue) > MAX_ACK_RANGES:
            space.ack_queue.shift()
        self._unacknowledged += owes
        if owes and space.ack_at is None:
            space.ack_at = now + _ACK_DELAY

    def _take_payload(self, payload: bytes, id: bytes, now: float) -> bool:
        """Take answers and acknowledgements; from the first other frame on it is aioquic's. Whether one is owed in turn."""
        context = self._context
        if context is None or context.time != now or context.host_cid != id:
            context = self._context = QuicReceiveContext(Epoch.ONE_RTT, id, self._network_paths[0], None, now, None)
        buf, size, owes = Buffer(data=payload), len(payload), False
        while (at := buf.tell()) < size:
            kind = payload[at]
            handle = _HANDLED.get(kind)
            if handle is None:
                self._stirred = True
                return self._payload_received(context, payload[at:])[0] or owes
            buf.seek(at + 1)
            try:
                handle(self, context, kind, buf)
            except BufferReadError:  # which is an error of the connection, and for aioquic to tell
                return self._payload_received(context, payload[at:])[0]
            except StreamFinishedError:
                pass  # it comes once more
            owes = owes or kind != QuicFrameType.ACK
        return owes

    def _handle_stream_frame(self, context: Any, frame_type: int, buf: Buffer) -> None:
        """An answer that is whole is handed on; all else is aioquic's."""
        at = buf.tell()
        if frame_type & (_FIN | _OFFSET) == _FIN and (stream := buf.pull_uint_var()) in self._brief:
            size = buf.pull_uint_var() if frame_type & _LENGTH else buf.capacity - buf.tell()
            limit = self._local_max_data
            if size <= self._local_max_stream_data_bidi_local and limit.used + size <= limit.value:
                data = buf.pull_bytes(size)
                limit.used += size
                del self._brief[stream]
                self._events.append(StreamDataReceived(data=data, end_stream=True, stream_id=stream))
                return
        buf.seek(at)
        super()._handle_stream_frame(context, frame_type, buf)

    def _handle_max_stream_data_frame(self, context: Any, frame_type: int, buf: Buffer) -> None:
        """More room than a question needs; its stream stays brief, so that the question is sent again if it was lost."""
        at = buf.tell()
        if buf.pull_uint_var() in self._brief:
            buf.pull_uint_var()
            return
        buf.seek(at)
        super()._handle_max_stream_data_frame(context, frame_type, buf)

    def _handle_stop_sending_frame(self, context: Any, frame_type: int, buf: Buffer) -> None:
        """The server wants no more of a question: aioquic resets its stream, whether the question came there or not."""
        at = buf.tell()
        if (stream := buf.pull_uint_var()) in self._brief:
            self._unfold(stream, writable=True)
        buf.seek(at)
        super()._handle_stop_sending_frame(context, frame_type, buf)

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> QuicStream:
        if stream_id in self._brief:
            self._unfold(stream_id, writable=False)
        return super()._get_or_create_stream(frame_type, stream_id)


def _has_more(stream: QuicStream) -> bool:
    """Whether a stream of aioquic's has something to say."""
    sender = stream.sender
    return not sender.buffer_is_empty or sender.reset_pending or stream.receiver.stop_pending


_HANDLED: Final[dict[int, Callable[..., None]]] = {
    QuicFrameType.ACK.value: BriefStreams._handle_ack_frame,
    QuicFrameType.MAX_DATA.value: BriefStreams._handle_max_data_frame,
    QuicFrameType.MAX_STREAMS_BIDI.value: BriefStreams._handle_max_streams_bidi_frame,
    **dict.fromkeys(range(QuicFrameType.STREAM_BASE, QuicFrameType.STREAM_BASE + 8), BriefStreams._handle_stream_frame),
}
"""What comes with answers, by type of frame."""
