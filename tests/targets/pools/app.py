"""A WSGI application that is asked for `/turn/7` and asks another service, whose port is in BACKEND, for `/first/7` and `/second/7`.
`/once/7` does so at once, by threads that end with it, `/shared/7` by threads of a pool;
`/spent/7` does so behind its answer, when the server closes its content."""
import concurrent.futures
import http.client
import os
import threading

backend = int(os.environ["BACKEND"])


def ask(place, order):
    other = http.client.HTTPConnection("127.0.0.1", backend)
    other.request("GET", f"/{place}/{order}")
    other.getresponse().read()
    other.close()


def ask_at_once(order):
    threads = [threading.Thread(target=ask, args=(place, order)) for place in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


shared = concurrent.futures.ThreadPoolExecutor(8)


def ask_by_shared(order):
    for asked in [shared.submit(ask, place, order) for place in ("first", "second")]:
        asked.result()


def ask_twice(order):
    ask("first", order)
    ask("second", order)


class Content(list):
    order = None

    def close(self):
        if self.order:
            ask_twice(self.order)


def application(environ, start_response):
    how, order = environ["PATH_INFO"].split("/")[1:]
    content = Content([b"done"])
    if how == "spent":
        content.order = order
    elif how == "once":
        ask_at_once(order)
    elif how == "shared":
        ask_by_shared(order)
    else:
        ask_twice(order)
    start_response("200 OK", [("content-type", "text/plain"), ("content-length", "4")])
    return content
