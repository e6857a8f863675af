"""What large transactions take, and what others wait for meanwhile: ``python -m bench.bundles``.

A reader beside it asks for one record again and again.
"""

import argparse
import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.__main__ import CLIENT, _candour, _free_port, _observation, _patient, _serving


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.bundles", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[625, 1_250, 2_500, 5_000])
    parser.add_argument("--methods", nargs="+", default=["POST"], choices=["POST", "PUT", "GET"])
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="candour-bench-"))
    try:
        for figure in measured(home, options.sizes, options.methods):
            print(json.dumps(figure), flush=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def measured(home: Path, sizes: list[int], methods: list[str]) -> Iterator[dict[str, Any]]:
    port = _free_port()
    environment = {
        **os.environ,
        "CANDOUR_HOME": str(home / "node"),
        "CANDOUR_PORT": str(port),
        "CANDOUR_CUSTODIANS": "RX1",
        "CANDOUR_LOG_LEVEL": "WARNING",
    }
    environment.pop("DATABASE_URL", None)
    _candour(environment, "migrate")
    _candour(environment, "client", "add", CLIENT, "--organisation", "RX1", "--scope", "system/*.cruds")
    with _serving(environment, port) as server:
        for method in methods:
            for size in sizes:
                # A token lives five minutes at most.
                token = _candour(environment, "token", "--client", CLIENT).strip()
                yield asyncio.run(_one(port, token, method, size, server))


async def _one(port: int, token: str, method: str, size: int, server: psutil.Process) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/fhir+json"}
    base = f"http://127.0.0.1:{port}/fhir"
    async with httpx.AsyncClient(headers=headers, timeout=300) as http:
        made = await http.put(f"{base}/Patient/p0", json=_patient(0))
        made.raise_for_status()
        waits: list[float] = []
        most = [server.memory_info().rss]
        reading = asyncio.create_task(_read(http, f"{base}/Patient/p0", waits, server, most))
        await asyncio.sleep(0.3)
        waits.clear()
        body = json.dumps(_bundle(method, size)).encode()
        started = time.perf_counter()
        answer = await http.post(base, content=body)
        elapsed = time.perf_counter() - started
        reading.cancel()
        assert answer.status_code == 200, answer.text[:500]
        assert len(answer.json()["entry"]) == size
    waits.sort()
    return {
        "method": method,
        "entries": size,
        "seconds": round(elapsed, 2),
        "per_second": round(size / elapsed),
        "reads_beside": len(waits),
        "longest_wait_ms": round(waits[-1] * 1000) if waits else None,
        "p50_wait_ms": round(waits[len(waits) // 2] * 1000, 1) if waits else None,
        "resident_mib": round(server.memory_info().rss / 2**20),
        "most_mib": round(most[0] / 2**20),
    }


def _bundle(method: str, size: int) -> dict[str, Any]:
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [_entry(method, n) for n in range(size)],
    }


def _entry(method: str, n: int) -> dict[str, Any]:
    match method:
        case "POST":
            return {"resource": _observation(0, n, None), "request": {"method": "POST", "url": "Observation"}}
        case "PUT":
            id = f"bench-{n}"
            changed = {**_observation(0, n, id), "issued": f"2025-01-01T10:00:00.{time.time_ns() % 1000:03}Z"}
            return {"resource": changed, "request": {"method": "PUT", "url": f"Observation/{id}"}}
    return {"request": {"method": "GET", "url": "Patient/p0"}}


async def _read(
    http: httpx.AsyncClient, url: str, waits: list[float], server: psutil.Process, most: list[int]
) -> None:
    while True:
        started = time.perf_counter()
        (await http.get(url)).raise_for_status()
        waits.append(time.perf_counter() - started)
        most[0] = max(most[0], server.memory_info().rss)
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    main()
