"""A hospital's plain FHIR R4 server, as small as one can be: no consent, no token, no Candour."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class PlainFhir:
    """What it keeps, and what it was asked. ``records`` are texts, so that their digits stay as written."""

    patients: list[dict[str, Any]]
    records: list[str]
    asked: list[str] = field(default_factory=list)
    base: str = ""

    def answer(self, target: str) -> str | None:
        """A searchset's text; None is 404."""
        self.asked.append(target)
        parts = urlsplit(target)
        kind, query = parts.path.removeprefix("/fhir/"), parse_qs(parts.query)
        if kind == "Patient" and "identifier" in query:
            system, _, value = query["identifier"][0].partition("|")
            wanted = {"system": system, "value": value}
            return _searchset([json.dumps(one) for one in self.patients if wanted in one["identifier"]])
        if kind == "Observation" and "patient" in query:
            return _searchset(self.records)
        return None


def _searchset(resources: list[str]) -> str:
    entries = ",".join(f'{{"resource":{one},"search":{{"mode":"match"}}}}' for one in resources)
    entry = f',"entry":[{entries}]' if entries else ""
    return f'{{"resourceType":"Bundle","type":"searchset","total":{len(resources)}{entry}}}'


@contextmanager
def a_plain_server(patients: list[dict[str, Any]], records: list[str]) -> Iterator[PlainFhir]:
    kept = PlainFhir(patients, records)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            text = kept.answer(self.path)
            body = (text or '{"resourceType":"OperationOutcome"}').encode()
            self.send_response(200 if text else 404)
            self.send_header("Content-Type", "application/fhir+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        kept.base = f"http://127.0.0.1:{server.server_address[1]}/fhir"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()
