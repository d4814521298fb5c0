"""A client whose descriptors change hands. Each connection of the first part has the number of the one
before, some of which were closed before their answer came; in the second part two connections swap
numbers while answers are outstanding. Arguments: the server's port, rounds."""
import os
import socket
import sys

port, rounds = map(int, sys.argv[1:])


def ask(target):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(f"GET {target} HTTP/1.1\r\nhost: t\r\n\r\n".encode())
    return connection


def answer(connection):
    # Both answers of the server are small: they end when nothing of them is missing.
    text = b""
    while not (text.endswith(b"hello") or b" 204 " in text and text.endswith(b"\r\n\r\n")):
        text += connection.recv(65536)


print("ready", flush=True)
sys.stdin.readline()
numbers = set()
for n in range(rounds):
    left = n % 4 == 3
    connection = ask(f"/small/left/{n}" if left else f"/small/{n}")
    numbers.add(connection.fileno())
    if not left:
        answer(connection)
    connection.close()
for n in range(rounds):
    one, other = ask(f"/small/one/{n}"), ask(f"/nothing/other/{n}")
    spare = os.dup(one.fileno())
    os.dup2(other.fileno(), one.fileno())
    os.dup2(spare, other.fileno())
    os.close(spare)
    answer(one)
    answer(other)
    one.close()
    other.close()
print(len(numbers), flush=True)
