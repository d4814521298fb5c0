"""A WSGI application that is asked for `/turn/7` and asks another service for `/first/7` and `/second/7`, whose port is in BACKEND.
`/spent/7` does so behind its answer, when the server closes its content."""
import http.client
import os

backend = int(os.environ["BACKEND"])


def ask(place, order):
    other = http.client.HTTPConnection("127.0.0.1", backend)
    other.request("GET", f"/{place}/{order}")
    other.getresponse().read()
    other.close()


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
    else:
        ask_twice(order)
    start_response("200 OK", [("content-type", "text/plain"), ("content-length", "4")])
    return content
