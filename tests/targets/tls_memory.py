"""Two connections whose TLS works on memory, on one thread, which reads and writes for both before it lets either go on: once
the bytes are here, nothing but they tells which object they are for. Arguments: `first` if the first bytes of a connection are
written right behind the call that made them, `never` if those of both calls are written behind the second one; and the ports of two
servers. Waits for a line, then asks each for `/of/PORT/NUMBER` three times."""
import socket
import ssl
import sys

CONTEXT = ssl.create_default_context()
CONTEXT.check_hostname = False
CONTEXT.verify_mode = ssl.CERT_NONE


class Connection:
    def __init__(self, port):
        self.port = port
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = CONTEXT.wrap_bio(self.incoming, self.outgoing)

    def read(self):
        self.incoming.write(self.socket.recv(1 << 16))

    def flush(self):
        if self.outgoing.pending:
            self.socket.sendall(self.outgoing.read())

    def shake(self):
        try:
            self.tls.do_handshake()
            return True
        except ssl.SSLWantReadError:
            return False


input()
at_once = sys.argv[1] == "first"
both = [Connection(int(port)) for port in sys.argv[2:]]
# Both begin, then both write, and so on: read(A); read(B); SSL_read(objA).
open_yet = []
for connection in both:
    open_yet.append(connection.shake())
    if at_once:
        connection.flush()
for connection in both:
    connection.flush()
while not all(open_yet):
    for connection, is_open in zip(both, open_yet):
        if not is_open:
            connection.read()
    open_yet = [is_open or connection.shake() for connection, is_open in zip(both, open_yet)]
    for connection in both:
        connection.flush()
for number in range(3):
    for connection in both:
        connection.tls.write(f"GET /of/{connection.port}/{number} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
    for connection in both:
        connection.flush()
    answers = [b"", b""]
    while not all(answer.endswith(b"\r\n\r\nok") for answer in answers):
        waiting = [at for at, answer in enumerate(answers) if not answer.endswith(b"\r\n\r\nok")]
        for at in waiting:
            both[at].read()
        for at in waiting:
            try:
                answers[at] += both[at].tls.read(1 << 16)
            except ssl.SSLWantReadError:
                pass
print("done", flush=True)
