"""One thread reads requests and hands them to event loops, each on a thread of its own, which answer them. A loop goes on with
another request wherever one waits, so its thread says nothing. Arguments: the other service's port, and how many loops."""
import asyncio
import random
import sys
import threading

import reading

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


def hand_over(connection, target):
    # A loop itself does not keep what it runs.
    task = handle(connection, target)
    kept.append(asyncio.run_coroutine_threadsafe(task, random.choice(loops)))


reading.serve(hand_over)
