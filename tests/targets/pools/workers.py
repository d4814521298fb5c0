"""One thread reads requests of all connections and hands them to workers, which ask another service
twice and answer. Arguments: the other service's port."""
import concurrent.futures
import http.client
import selectors
import socket
import sys

backend, = map(int, sys.argv[1:])
selector = selectors.DefaultSelector()
workers = concurrent.futures.ThreadPoolExecutor(8)


def handle(connection, target):
    name = target.rsplit("/", 1)[1]
    for place in ("first", "second"):
        other = http.client.HTTPConnection("127.0.0.1", backend)
        other.request("GET", f"/{place}/{name}")
        other.getresponse().read()
        other.close()
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")


listener = socket.create_server(("127.0.0.1", 0), backlog=128)
selector.register(listener, selectors.EVENT_READ)
print(listener.getsockname()[1], flush=True)
while True:
    for key, _ in selector.select():
        if key.fileobj is listener:
            selector.register(listener.accept()[0], selectors.EVENT_READ)
            continue
        # Requests of the test are small: one read has all of one.
        try:
            head = key.fileobj.recv(65536)
        except OSError:  # its client has reset it
            head = b""
        if head:
            workers.submit(handle, key.fileobj, head.split(b" ")[1].decode())
        else:
            selector.unregister(key.fileobj)
            key.fileobj.close()
