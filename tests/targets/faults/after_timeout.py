"""Asks a server so many times over a connection that was kept for longer than the server keeps it. Prints for each what
was answered, and then "-". Arguments: its port, how many times. Waits for a line first."""

import http.client
import sys
import time

port, count = (int(argument) for argument in sys.argv[1:])
sys.stdin.readline()
for _ in range(count):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/small")
    answer = connection.getresponse()
    answer.read()
    time.sleep(0.5)
    try:
        connection.request("GET", "/small?late")
        late = connection.getresponse().status
    except (http.client.HTTPException, OSError):
        late = "-"
    print(answer.status, late, flush=True)
    connection.close()
