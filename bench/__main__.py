"""``make bench``: what is fast, measured on this machine as ratios to a bare route of the same server in the same run.

Loopback only, bounded in time, in a home of its own that is removed at the end.
"""

import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

CODES = [f"{number}-{number % 10}" for number in range(8800, 8825)]
CLIENT = "bench"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--patients", type=int, default=200, help="people in the store, 500 observations each"
    )
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each measurement")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="candour-bench-"))
    try:
        for name, figure in measured(home, options.patients, options.seconds):
            print(f"{name:<52} {json.dumps(figure)}", flush=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def measured(home: Path, patients: int, seconds: float) -> Iterator[tuple[str, Any]]:
    port = _free_port()
    environment = {
        **os.environ,
        "CANDOUR_HOME": str(home / "node"),
        "CANDOUR_PORT": str(port),
        "CANDOUR_CUSTODIANS": "RX1",
        "CANDOUR_LOG_LEVEL": "WARNING",
    }
    environment.pop("DATABASE_URL", None)
    yield "load, with validation and full indexing", _loaded(home, environment, patients)
    _candour(environment, "client", "add", CLIENT, "--organisation", "RX1", "--scope", "system/*.cruds")
    with _serving(environment, port) as server:
        token = _candour(environment, "token", "--client", CLIENT).strip()
        yield from _figures(port, token, patients, seconds, server)


def _figures(
    port: int, token: str, patients: int, seconds: float, server: psutil.Process
) -> Iterator[tuple[str, Any]]:
    hello = _drive(port, [_get("/hello", token)], 16, seconds)
    yield "hello, 16 connections", hello
    hello64 = _drive(port, [_get("/hello", token)], 64, seconds)
    yield "hello, 64 connections", hello64
    reads = [_get(f"/fhir/Observation/o{n}", token) for n in random.sample(range(patients * 500), 2000)]
    for connections, bare in ((16, hello), (64, hello64)):
        found = _drive(port, reads, connections, seconds)
        yield f"GET Observation/[id], {connections} connections", _ratio(found, bare)
    searches = [
        _get(f"/fhir/Observation?patient=p{n}&code=http://loinc.org%7C{code}", token)
        for n in random.sample(range(patients), min(100, patients))
        for code in CODES[:5]
    ]
    yield "GET Observation?patient&code, 20 results, 16", _ratio(_drive(port, searches, 16, seconds), hello)
    posts = [
        _post("/fhir/Observation", json.dumps(_observation(n % patients, n, None)), token) for n in range(500)
    ]
    yield "POST Observation, 16 connections", _drive(port, posts, 16, seconds)
    bundles = [_post("/fhir", json.dumps(_transaction(n % patients)), token) for n in range(20)]
    found = _drive(port, bundles, 4, seconds)
    yield (
        "transactions of 100 resources, resources a second",
        {**found, "per_second": found["per_second"] * 100},
    )
    yield "resident memory of the worker, MiB", round(server.memory_info().rss / 2**20, 1)


def _loaded(home: Path, environment: dict[str, str], patients: int) -> dict[str, float]:
    data = home / "data"
    data.mkdir()
    with (data / "patient.ndjson").open("w") as lines:
        for n in range(patients):
            lines.write(json.dumps(_patient(n)) + "\n")
    for part in range(0, patients, 20):
        with (data / f"observations-{part}.ndjson").open("w") as lines:
            for n in range(part * 500, min(part + 20, patients) * 500):
                lines.write(json.dumps(_observation(n // 500, n, f"o{n}")) + "\n")
    _candour(environment, "migrate")
    started = time.perf_counter()
    _candour(environment, "load", str(data), "--custodian", "RX1")
    elapsed = time.perf_counter() - started
    return {
        "resources": patients * 501,
        "seconds": round(elapsed, 1),
        "per_second": round(patients * 501 / elapsed),
    }


def _patient(n: int) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": f"p{n}",
        "identifier": [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": _nhs_number(n)}],
        "name": [{"family": f"Family{n}", "given": ["Given"]}],
        "gender": "female",
        "birthDate": f"{1930 + n % 80}-03-0{1 + n % 9}",
    }


def _nhs_number(n: int) -> str:
    """The n-th number of the never-issued 999 range that has a check digit."""
    for candidate in range(999_000_000 + n * 2, 999_999_999):
        total = sum(w * int(d) for w, d in zip(range(10, 1, -1), str(candidate), strict=True))
        check = (11 - total % 11) % 11
        if check < 10:
            return f"{candidate}{check}"
    raise AssertionError


def _observation(patient: int, n: int, id: str | None) -> dict[str, Any]:
    code = CODES[n % len(CODES)]
    return {
        "resourceType": "Observation",
        **({"id": id} if id else {}),
        "status": "final",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "vital-signs",
                        "display": "Vital signs",
                    }
                ]
            }
        ],
        "code": {
            "coding": [{"system": "http://loinc.org", "code": code, "display": f"Measure {code}"}],
            "text": code,
        },
        "subject": {"reference": f"Patient/p{patient}"},
        "effectiveDateTime": f"20{10 + n % 15}-0{1 + n % 9}-1{n % 10}T10:0{n % 6}:00+00:00",
        "issued": "2025-01-01T10:00:00.000Z",
        "valueQuantity": {
            "value": round(50 + n % 100 + 0.5, 1),
            "unit": "mmol/L",
            "system": "http://unitsofmeasure.org",
            "code": "mmol/L",
        },
    }


def _transaction(patient: int) -> dict[str, Any]:
    entries = [
        {"resource": _observation(patient, n, None), "request": {"method": "POST", "url": "Observation"}}
        for n in range(100)
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _ratio(found: dict[str, Any], bare: dict[str, Any]) -> dict[str, Any]:
    return {"of_hello": round(found["per_second"] / bare["per_second"], 3), **found}


def _get(path: str, token: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"


def _post(path: str, body: str, token: str) -> str:
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/fhir+json\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}"
    )


def _drive(port: int, requests: list[str], connections: int, seconds: float) -> dict[str, Any]:
    plan = json.dumps({"port": port, "requests": requests, "connections": connections, "seconds": seconds})
    done = subprocess.run(
        [sys.executable, "-m", "bench.wire"], input=plan, capture_output=True, text=True, check=True
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _candour(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "app", *arguments], env=environment, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise SystemExit(f"candour {' '.join(arguments)} failed: {done.stderr[-2000:]}")
    return done.stdout


@contextmanager
def _serving(environment: dict[str, str], port: int) -> Iterator[psutil.Process]:
    server = subprocess.Popen([sys.executable, "-m", "app", "serve"], env=environment)
    try:
        _wait_until_ready(port, server)
        yield psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait(timeout=60)


def _wait_until_ready(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if server.poll() is not None:
            raise SystemExit("the service did not start")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the service did not become ready")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
