"""One thread reads requests and hands them to event loops, each on a thread of its own, which answer them. A loop goes on with
another request wherever one waits, so its thread says nothing. Arguments: the other service's port, and how many loops."""
import asyncio
import random
import selectors
import socket
import sys
import threading

backend, count = map(int, sys.argv[1:])


async def ask(place, order):
    reader, writer = await asyncio.open_connection("127.0.0.1", backend)
    writer.write(f"GET /{place}/{order} HTTP/1.1\r\nhost: t\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
    writer.close()


async def handle(connection, target):
    order = target.rsplit("/", 1)[1]
    for place in ("first", "second"):
        await ask(place, order)
        await asyncio.sleep(random.random() / 1000)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")


loops = [asyncio.new_event_loop() for _ in range(count)]
for loop in loops:
    threading.Thread(target=loop.run_forever, daemon=True).start()
kept = []
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
        head = key.fileobj.recv(65536)
        if head:
            target = head.split(b" ")[1].decode()
            task = handle(key.fileobj, target)
            # A loop itself does not keep what it runs.
            kept.append(asyncio.run_coroutine_threadsafe(task, random.choice(loops)))
        else:
            selector.unregister(key.fileobj)
            key.fileobj.close()
