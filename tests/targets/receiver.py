"""Takes OTLP over HTTP and TLS from whoever sends these fields. Arguments: certificate, key, address, fields as
`name: value`. Prints `path status`, with what is missing, for each request; ends well by SIGTERM."""
import http.server
import os
import signal
import ssl
import sys

certificate, key, address, *fields = sys.argv[1:]
demanded = [field.split(": ", 1) for field in fields]


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        missing = [name for name, value in demanded if self.headers[name] != value]
        if self.headers["content-type"] != "application/x-protobuf":
            missing.append("content-type")
        words = [self.path, "401" if missing else "200", *missing]
        # One write: `print` makes several, and another thread's may come between.
        os.write(1, (" ".join(words) + "\n").encode())
        self.send_response(401 if missing else 200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer((address, 0), Receiver)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
print(server.server_address[1], flush=True)
server.serve_forever()
