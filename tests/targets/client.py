"""Requests over one connection, timed with the client's own clock: one JSON line each."""
import http.client
import json
import sys
import time

port, = map(int, sys.argv[1:])
sys.stdin.readline()
connection = http.client.HTTPConnection("127.0.0.1", port)
connection.connect()
for number in range(60):
    method, path, body = [
        ("GET", "/small", None),
        ("POST", "/small", b"x" * 3000),
        ("HEAD", "/small", None),
        ("GET", "/missing", None),
        ("GET", "/big", None),
        ("DELETE", "/nothing", None),
    ][number % 6]
    start = time.perf_counter_ns()
    connection.request(method, f"{path}?n={number}", body=body)
    response = connection.getresponse()
    content = response.read()
    print(json.dumps({
        "line": f"{method} {path} {response.status}",
        "sent": len(body or b""), "received": len(content),
        "ns": time.perf_counter_ns() - start,
    }))
