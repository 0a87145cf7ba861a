"""Takes what a collector passes on (OTLP over HTTP, protobuf) and prints it, one JSON object a line."""

import gzip
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

LOCK = threading.Lock()
KINDS = {"/v1/metrics": ExportMetricsServiceRequest, "/v1/traces": ExportTraceServiceRequest}


class Sink(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        kind = KINDS.get(self.path)
        if kind:
            message = kind()
            message.ParseFromString(body)
            line = json.dumps({"path": self.path, "body": MessageToDict(message)})
            with LOCK:
                print(line, flush=True)
        self.send_response(200 if kind else 404)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
print(f"listening on {server.server_port}", file=sys.stderr, flush=True)
server.serve_forever()
