"""A WSGI application that answers `hello` after `wait` milliseconds of its query."""
import time
from urllib.parse import parse_qs


def application(environ, start_response):
    time.sleep(int(parse_qs(environ["QUERY_STRING"])["wait"][0]) / 1000)
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]
