"""One thread reads requests of all connections and hands them to workers, which ask another service
twice and answer. Arguments: the other service's port."""
import concurrent.futures
import http.client
import sys

import reading

backend, = map(int, sys.argv[1:])
workers = concurrent.futures.ThreadPoolExecutor(8)


def handle(connection, target):
    name = target.rsplit("/", 1)[1]
    for place in ("first", "second"):
        other = http.client.HTTPConnection("127.0.0.1", backend)
        other.request("GET", f"/{place}/{name}")
        other.getresponse().read()
        other.close()
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")


reading.serve(lambda connection, target: workers.submit(handle, connection, target))
