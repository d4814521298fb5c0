"""Sends the plan on standard input with http.client, over one connection while it lasts, and what
is marked `close` with urllib; one JSON line each.

client.py URL
"""
import http.client
import json
import ssl
import sys
import time
import urllib.error
import urllib.request

url = sys.argv[1]
plan = [line.split() for line in sys.stdin]
context = ssl._create_unverified_context()
scheme, _, host = url.partition("://")
if scheme == "https":
    connection = http.client.HTTPSConnection(host, context=context)
else:
    connection = http.client.HTTPConnection(host)


def by_urllib(method, target, body):
    request = urllib.request.Request(url + target, data=body, method=method)
    try:
        response = urllib.request.urlopen(request, context=context)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        return response.status, len(response.read())


def by_http_client(method, target, body):
    connection.request(method, target, body=body)
    response = connection.getresponse()
    return response.status, len(response.read())


for method, target, size, mode in plan:
    size = int(size)
    body = b"x" * size if size else None
    if mode == "chunked":
        body = (b"x" * min(4096, size - at) for at in range(0, size, 4096))
    send = by_urllib if mode == "close" else by_http_client
    begin, stopwatch = time.time_ns(), time.perf_counter_ns()
    status, received = send(method, target, body)
    ns = time.perf_counter_ns() - stopwatch
    print(json.dumps({
        "method": method, "target": target, "status": status,
        "request": size, "response": received, "begin": begin, "ns": ns,
    }))
