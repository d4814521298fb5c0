"""A service with the SDK of OpenTelemetry: for each request it makes a span, asks another service within a span of its own, and
passes the context on. It exports to OTEL_EXPORTER_OTLP_ENDPOINT every 50 ms. `/plain` asks without the SDK. Arguments: the other
service's port. Prints its port; ends when its input does, with everything exported."""
import http.client
import http.server
import sys
import threading

from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

backend, = map(int, sys.argv[1:])
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=50))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("service")


def ask(headers):
    other = http.client.HTTPConnection("127.0.0.1", backend)
    other.request("GET", "/", headers=headers)
    other.getresponse().read()
    other.close()


class Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        parent = propagate.extract(self.headers)
        with tracer.start_as_current_span("serve", parent, kind=trace.SpanKind.SERVER):
            if self.path.startswith("/plain"):
                ask({})
            else:
                with tracer.start_as_current_span("ask", kind=trace.SpanKind.CLIENT):
                    headers = {}
                    propagate.inject(headers)
                    ask(headers)
        self.send_response(200)
        self.send_header("content-length", "4")
        self.end_headers()
        self.wfile.write(b"done")

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
provider.shutdown()
