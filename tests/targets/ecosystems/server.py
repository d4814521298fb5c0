"""Answers as the plan of tests/src/plan.rs wants it, with Python's own http.server, and logs it.

server.py LOG [FOLDER]: with FOLDER over TLS, by the cert.pem and key.pem in it.
"""
import http.server
import json
import ssl
import sys
import threading
import time

LOG = open(sys.argv[1], "a", buffering=1)
LOCK = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def parse_request(self):
        self.begin, self.stopwatch = time.time_ns(), time.perf_counter_ns()
        return super().parse_request()

    def answer(self):
        received = self.take()
        path = self.path.partition("?")[0]
        kind, _, size = path[1:].partition("/")
        status = {"nothing": 204, "same": 304, "missing": 404, "broken": 500}.get(kind, 200)
        content = b"hello"
        if size:
            content = b"x" * int(size)
        elif kind in ("empty", "nothing", "same"):
            content = b""
        if "wait=" in self.path:
            time.sleep(int(self.path.partition("wait=")[2]) / 1000)
        self.send_response(status)
        if kind == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        elif status not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        if kind == "close" or self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            content = b""
        elif kind == "chunked":
            for piece in range(0, len(content), 4096):
                part = content[piece:piece + 4096]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        elif content:
            self.wfile.write(content)
        line = json.dumps({
            "method": self.command, "target": self.path, "status": status,
            "request": received, "response": len(content),
            "begin": self.begin, "ns": time.perf_counter_ns() - self.stopwatch,
        })
        with LOCK:
            LOG.write(line + "\n")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def take(self):
        """Reads what comes with the request; its size."""
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        total = 0
        while size := int(self.rfile.readline(), 16):
            total += len(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return total

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass


server = Server(("127.0.0.1", 0), Handler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2] + "/cert.pem", sys.argv[2] + "/key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
