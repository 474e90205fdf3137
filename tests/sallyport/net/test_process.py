"""What a part asks of its process; in one of its own, because none of it can be taken back (C14, T5)."""

import json
import subprocess
import sys

HARDENED = """
import ctypes, gc, json, resource
from sallyport.net.process import descriptor_limit, harden_process, raise_descriptor_limit, settle_memory

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 64), hard))
harden_process()
raise_descriptor_limit()
settle_memory()
print(json.dumps({
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
    "descriptors": descriptor_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard,
    "frozen": gc.get_freeze_count() > 0,
}))
"""


def test_c14_no_core_file_and_no_look_into_memory() -> None:
    done = subprocess.run([sys.executable, "-c", HARDENED], capture_output=True, check=True, timeout=30)
    told = json.loads(done.stdout)
    assert told["core"] == [0, 0]
    assert told["descriptors"]
    assert told["frozen"]
    if sys.platform == "linux":
        assert told["dumpable"] == 0


LEFT = """
import gc, weakref
from sallyport.net.process import leave_memory

class Cycle:
    pass

one = Cycle()
one.itself = one
seen = weakref.ref(one)
leave_memory()
del one
gc.collect()
print(seen() is not None)
"""


def test_what_ends_with_the_process_is_not_looked_through() -> None:
    done = subprocess.run([sys.executable, "-c", LEFT], capture_output=True, check=True, timeout=30)
    assert done.stdout == b"True\n"
