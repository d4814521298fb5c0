"""A threaded service: each request asks another service twice, once over a connection that threads
share in turn and once over a new one. Arguments: the other service's port."""
import http.client
import http.server
import queue
import sys
import threading

backend, = map(int, sys.argv[1:])
pool = queue.LifoQueue()


def ask(target, kept):
    try:
        connection = pool.get_nowait() if kept else None
    except queue.Empty:
        connection = None
    connection = connection or http.client.HTTPConnection("127.0.0.1", backend)
    connection.request("GET", target)
    connection.getresponse().read()
    if kept:
        pool.put(connection)
    else:
        connection.close()


class Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        name = self.path.rsplit("/", 1)[1]
        ask(f"/first/{name}", True)
        ask(f"/second/{name}", False)
        self.send_response(200)
        self.send_header("content-length", "4")
        self.end_headers()
        self.wfile.write(b"done")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


server = Server(("127.0.0.1", 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
