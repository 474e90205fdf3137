"""The frames of yamux v0, as published: https://github.com/hashicorp/yamux/blob/master/spec.md.

A frame is a header of 12 bytes, big-endian: version (8 bits), type (8), flags (16), stream id (32), length (32).
Only a data frame has a payload; in the others `length` is a value. Version and type are read as one number here,
because the version is always 0.
"""

import struct
from typing import Final

HEADER: Final = struct.Struct(">HHII")
HEADER_BYTES: Final = HEADER.size

DATA: Final = 0
WINDOW_UPDATE: Final = 1
PING: Final = 2
GO_AWAY: Final = 3

SYN: Final = 1
ACK: Final = 2
FIN: Final = 4
RST: Final = 8

# Stream 0 is the session itself: ping and go-away.
SESSION_ID: Final = 0
MAX_STREAM_ID: Final = 0xFFFFFFFF

# Codes of a go-away.
NORMAL: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2

INITIAL_WINDOW_BYTES: Final = 256 * 1024
# What one frame of ours takes at most, its header included: four of them fill one message (wire/websocket.py), and a
# small frame waits for at most this much of each other stream.
MAX_FRAME_BYTES_SENT: Final = 16 * 1024
MAX_DATA_BYTES_SENT: Final = MAX_FRAME_BYTES_SENT - HEADER_BYTES
# The longest data frame that is taken. An incomplete one is held outside every window, so it is bounded by what one
# message can hold and not by the peer's window.
MAX_DATA_BYTES_TAKEN: Final = 64 * 1024

# The header of a frame: frame_header(type, flags, stream id, length).
frame_header: Final = HEADER.pack
# The header at an offset, as (type, flags, stream id, length); a version other than 0 shows as an unknown type.
read_header: Final = HEADER.unpack_from
