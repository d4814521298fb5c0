"""A service in a row of several: each request is passed on to the next one, if there is one, with its
traceparent as it came. Arguments: the next one's port, or nothing."""
import http.client
import http.server
import sys
import threading

following = int(sys.argv[1]) if len(sys.argv) > 1 else None


class Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        status = 500 if following is None and self.path.endswith("/broken") else 200
        if following is not None:
            connection = http.client.HTTPConnection("127.0.0.1", following)
            fields = {"traceparent": self.headers["traceparent"]} if "traceparent" in self.headers else {}
            connection.request("GET", self.path, headers=fields)
            response = connection.getresponse()
            status = response.status
            response.read()
            connection.close()
        self.send_response(status)
        self.send_header("content-length", "4")
        self.end_headers()
        self.wfile.write(b"done")

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
