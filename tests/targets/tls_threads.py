"""Kills a process whose 128 threads are in calls of a TLS library; again and again. Needs the certificate and key here."""
import socket
import ssl
import subprocess
import sys
import threading
import time

PAIRS = 64


def serve(connection, context):
    with context.wrap_socket(connection, server_side=True) as stream:
        while data := stream.recv(4096):
            stream.sendall(data)


def ask(port, done):
    context = ssl._create_unverified_context()
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port))) as stream:
        stream.sendall(b"hello")
        stream.recv(4096)
        done.release()
        while True:
            stream.sendall(b"again")
            stream.recv(4096)
            time.sleep(0.01)


def threads():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("cert.pem", "key.pem")
    listener = socket.create_server(("127.0.0.1", 0), backlog=PAIRS)
    done = threading.Semaphore(0)
    for _ in range(PAIRS):
        threading.Thread(target=ask, args=(listener.getsockname()[1], done), daemon=True).start()
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, context), daemon=True).start()
    for _ in range(PAIRS):
        done.acquire()
    print("ready", flush=True)
    time.sleep(600)


def main():
    for _ in range(int(sys.argv[1])):
        command = [sys.executable, __file__, "threads"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            child.kill()
    print("done", flush=True)
    time.sleep(600)


threads() if sys.argv[1] == "threads" else main()
