"""An event loop: each request asks another service twice, with other requests' work in between; every
other one asks both at once, and every third from a worker thread. Arguments: the other's port."""
import asyncio
import http.client
import sys

backend, = map(int, sys.argv[1:])


async def read_message(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = [line for line in head.lower().split("\r\n") if line.startswith("content-length:")]
    await reader.readexactly(int(length[0].split(":")[1]) if length else 0)
    return head


idle = []


async def ask(target):
    reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", backend)
    await asyncio.sleep(0)
    writer.write(f"GET {target} HTTP/1.1\r\nhost: backend\r\n\r\n".encode())
    await read_message(reader)
    await asyncio.sleep(0)
    idle.append((reader, writer))


def ask_blocking(target):
    connection = http.client.HTTPConnection("127.0.0.1", backend)
    connection.request("GET", target)
    connection.getresponse().read()
    connection.close()


async def serve(reader, writer):
    number = 0
    while True:
        try:
            head = await read_message(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            return
        name = head.split(" ")[1].rsplit("/", 1)[1]
        number += 1
        if number % 3 == 0:
            for place in ("first", "second"):
                await asyncio.to_thread(ask_blocking, f"/{place}/{name}")
        elif number % 2 == 0:
            await asyncio.gather(ask(f"/first/{name}"), ask(f"/second/{name}"))
        else:
            await ask(f"/first/{name}")
            await asyncio.sleep(0.001)
            await ask(f"/second/{name}")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=128)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
