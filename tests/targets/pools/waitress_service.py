"""waitress with `app.py`: one thread reads requests, eight handle them. Prints its port."""
import logging

import app
import waitress

logging.getLogger("waitress.queue").setLevel(logging.ERROR)
server = waitress.create_server(app.application, host="127.0.0.1", port=0, threads=8)
print(server.effective_port, flush=True)
server.run()
