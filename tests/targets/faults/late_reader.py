"""Posts content that nobody reads, and reads the answer 50 ms later, when the connection was reset. Arguments: the
server's port, and how often of each: in one read, byte by byte, not at all. Begins when it is told to; says each status.
"""
import socket
import sys
import time

port, each = int(sys.argv[1]), int(sys.argv[2])
sys.stdin.readline()
for how in ("whole", "bytes", "never"):
    for _ in range(each):
        stream = socket.create_connection(("127.0.0.1", port))
        head = f"POST /{how} HTTP/1.1\r\nhost: t\r\ncontent-length: 5000\r\n\r\n"
        stream.sendall(head.encode() + b"c" * 5000)
        time.sleep(0.05)
        answer = b""
        if how != "never":
            while not answer.endswith(b"\r\n\r\nno"):
                answer += stream.recv(1 if how == "bytes" else 4096)
        stream.close()
        print(answer[9:12].decode() or "-", flush=True)
