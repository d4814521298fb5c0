"""A server that gets into trouble when it is asked to: `/crash` and `/abort` end it in the middle of an
answer and before one, `/exec` makes it another program in the middle of an answer. `/late` is answered after 50 ms.
One connection at a time. Arguments: none, or what the program before it handed over."""
import os
import signal
import socket
import sys
import time

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"


def serve(listener, stream):
    while True:
        stream = stream or listener.accept()[0]
        # Requests of the test are small: one read has all of one.
        try:
            request = stream.recv(65536)
        except OSError:
            request = b""
        if not request:
            stream.close()
            stream = None
            continue
        path = request.split(b" ")[1]
        if path == b"/crash":
            stream.sendall(HEAD % 10 + b"hello")
            os.kill(os.getpid(), signal.SIGSEGV)
        elif path == b"/abort":
            os.abort()
        elif path == b"/exec":
            stream.sendall(HEAD % 10 + b"hello")
            numbers = [listener.fileno(), stream.fileno()]
            for number in numbers:
                os.set_inheritable(number, True)
            environment = os.environ | {"OTEL_SERVICE_NAME": "second"}
            os.execve(sys.executable, [sys.executable, __file__, *map(str, numbers)], environment)
        elif path.startswith(b"/late"):
            # The client may have given up by the time of the answer, which is written in one go or in two.
            time.sleep(0.05)
            answer = [HEAD % 5, b"hello"] if path == b"/late/two" else [HEAD % 5 + b"hello"]
            try:
                for part in answer:
                    stream.sendall(part)
            except OSError:
                stream.close()
                stream = None
        else:
            stream.sendall(HEAD % 5 + b"hello")


if len(sys.argv) > 1:
    listener, stream = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
    stream.sendall(b"world")
    serve(listener, stream)
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
serve(listener, None)
