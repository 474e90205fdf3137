"""x"""
from pathlib import Path
import pytest
from tests.support.in_process import in_process_gateway
from tests.support.raw_end import raw_origin
from tests.support.gateway_plans import route, plan
import time
pytestmark = pytest.mark.uvloop

@pytest.mark.parametrize("n", range(5))
async def test_a(tmp_path: Path, n: int) -> None:
    t=time.perf_counter()
    async with raw_origin() as origin, in_process_gateway(tmp_path, plan=plan([route("r", ["api.test"], "con_one", allowCleartext=True)]), credentials={"con_one":"s3cr3t-value"}, connect_to={"api.test:80": origin.port}) as gateway:
        print("start", time.perf_counter()-t)
        c = await gateway.client()
        c.send(gateway.request("http://api.test/x"))
        link = await origin.link()
        print(await link.head())
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        print(await c.answer())
        print(await gateway.audit.until(1))
        print("end", time.perf_counter()-t)
    print("down", time.perf_counter()-t)
