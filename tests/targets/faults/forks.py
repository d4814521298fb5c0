"""A server with a process for each connection, which answers one request. With `unix` as argument each
of them also talks to itself over a pair of sockets that it never closes."""
import os
import signal
import socket
import sys

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
unix = sys.argv[1:] == ["unix"]
listener = socket.create_server(("127.0.0.1", 0), backlog=128)
print(listener.getsockname()[1], flush=True)
while True:
    stream = listener.accept()[0]
    if os.fork():
        stream.close()
        continue
    if unix:
        pair = socket.socketpair()
        pair[0].sendall(b"to oneself, at length")
        pair[1].recv(100)
    stream.recv(65536)
    stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
    # Its descriptors are closed by the kernel, without a call.
    os._exit(0)
