"""The server and the client of the README, of gRPC."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc

SERVICE = "grpc.testing.TestService"
# SimpleRequest{response_status{code: NOT_FOUND}}; StreamingOutputCallRequest{response_parameters{size: 10}} three times.
NOT_FOUND = b"\x3a\x02\x08\x05"
THREE = b"\x12\x02\x08\x0a" * 3


def serve(log):
    lock = threading.Lock()

    def note(method, code):
        with lock, open(log, "a") as file:
            print(f"/{SERVICE}/{method}", code.value[0], file=file)

    def empty(request, context):
        note("EmptyCall", grpc.StatusCode.OK)
        return b""

    def unary(request, context):
        code = grpc.StatusCode.NOT_FOUND if request == NOT_FOUND else grpc.StatusCode.OK
        note("UnaryCall", code)
        if code is not grpc.StatusCode.OK:
            context.abort(code, "QZQZQZQZ")
        return b""

    def stream(request, context):
        for _ in range(3):
            yield b"\x0a\x02\x12\x00"
        note("StreamingOutputCall", grpc.StatusCode.OK)

    def unimplemented(request, context):
        note("UnimplementedCall", grpc.StatusCode.UNIMPLEMENTED)
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "no")

    handlers = {
        "EmptyCall": grpc.unary_unary_rpc_method_handler(empty),
        "UnaryCall": grpc.unary_unary_rpc_method_handler(unary),
        "StreamingOutputCall": grpc.unary_stream_rpc_method_handler(stream),
        "UnimplementedCall": grpc.unary_unary_rpc_method_handler(unimplemented),
    }
    server = grpc.server(ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


def ask(port, workers, rounds):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        path = f"/{SERVICE}/"
        empty = channel.unary_unary(path + "EmptyCall")
        unary = channel.unary_unary(path + "UnaryCall")
        stream = channel.unary_stream(path + "StreamingOutputCall")
        unimplemented = channel.unary_unary(path + "UnimplementedCall")

        def fails(call, request, code):
            try:
                call(request)
            except grpc.RpcError as error:
                assert error.code() == code, error
            else:
                raise AssertionError(code)

        def work(_):
            for _ in range(rounds):
                empty(b"")
                fails(unary, NOT_FOUND, grpc.StatusCode.NOT_FOUND)
                assert len(list(stream(THREE))) == 3
                fails(unimplemented, b"", grpc.StatusCode.UNIMPLEMENTED)

        for number in map(int, workers.split(",")):
            with ThreadPoolExecutor(number) as pool:
                list(pool.map(work, range(number)))


if sys.argv[1] == "server":
    serve(sys.argv[2])
else:
    ask(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
