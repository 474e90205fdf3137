"""A server's frames, scrubbed when all of them are here: a second way beside gateway.core.frame_scrub."""

from gateway.core.scrub import Needles


def scrub_frames(data: bytes, needles: Needles) -> bytes:
    """Overwrite every needle up to the end of a message or of a control frame in it, and in what is no frame."""
    masked = bytearray(data)
    run: list[int] = []  # where the bytes stand that are searched together
    at = 0
    while at < len(data):
        head = _head(data[at : at + 10])
        if head is None:
            break  # it is not whole
        size, length = head
        if length < 0:
            run += range(at, len(data))
            break
        end = at + size + length
        run += range(at + size, min(end, len(data)))
        if data[at] & 0x80 and end <= len(data):
            _mask(masked, run, needles)
        at = end
    _mask(masked, run, needles)
    return bytes(masked)


def _head(data: bytes) -> tuple[int, int] | None:
    """Return the size of a frame's head and of its payload, which is negative where no server's frame begins so."""
    if data[0] & 0x70:
        return 1, -1
    if len(data) < 2:
        return None
    size = {126: 4, 127: 10}.get(data[1] & 0x7F, 2)
    if len(data) < size:
        return None
    if data[1] & 0x80:
        return size, -1
    return size, data[1] if size == 2 else int.from_bytes(data[2:size])


def _mask(masked: bytearray, run: list[int], needles: Needles) -> None:
    received = bytes(masked[at] for at in run)
    for pattern in needles.patterns:
        at = received.find(pattern)
        while at >= 0:
            for place in run[at : at + len(pattern)]:
                masked[place] = needles.fill[0]
            at = received.find(pattern, at + 1)
    run.clear()
