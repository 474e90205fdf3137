"""When a process holds too much memory, and when no longer. Pure; gateway/memory.py looks and acts."""

from typing import Final

# Shedding ends an eighth below where it begins, so that one large answer does not turn it on and off.
_RECOVERED_EIGHTHS: Final = 7


class MemoryLimit:
    """Always: is_over from the first look above the limit to the first one at seven eighths of it or below."""

    __slots__ = ("_low_bytes", "is_over", "limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._low_bytes = limit_bytes * _RECOVERED_EIGHTHS // 8
        self.is_over = False

    def look(self, resident_bytes: int) -> int:
        """Note what the process holds; return how many bytes have to go, 0 where none have."""
        self.is_over = resident_bytes > (self._low_bytes if self.is_over else self.limit_bytes)
        return resident_bytes - self._low_bytes if self.is_over else 0

    def __repr__(self) -> str:
        return f"<MemoryLimit of {self.limit_bytes} bytes{', over' if self.is_over else ''}>"


def limit_of_share(cgroup_bytes: int, processes: int) -> int:
    """Return what each of so many processes may hold of a cgroup's limit: four fifths are theirs together.

    The rest is for what the kernel counts beside them: socket buffers above all.
    """
    return cgroup_bytes * 4 // 5 // processes
