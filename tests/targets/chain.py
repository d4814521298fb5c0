"""A threaded service that calls another one twice per request, and the other one."""
import http.client
import http.server
import sys
import threading


class Stock(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = b"in stock"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Shop(Stock):
    backend = None

    def do_GET(self):
        order = self.path.rsplit("/", 1)[1]
        for item in ("a", "b"):
            connection = http.client.HTTPConnection("127.0.0.1", self.backend)
            connection.request("GET", f"/item/{item}-{order}")
            connection.getresponse().read()
            connection.close()
        super().do_GET()


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


def serve(handler):
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


Shop.backend = serve(Stock)
print(serve(Shop), flush=True)
sys.stdin.read()
