"""Workers that were forked with the listener open, each a loop of its own. Arguments: port, workers."""
import http.server
import os
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *arguments):
        pass


class Server(http.server.HTTPServer):
    def service_actions(self):
        if os.getppid() != PARENT:
            os._exit(0)


PARENT = os.getpid()
port, workers = map(int, sys.argv[1:])
server = Server(("127.0.0.1", port), Handler)
for _ in range(workers):
    if os.fork() == 0:
        server.serve_forever()
os.wait()
