// The server and the client of the README, of HTTP.
"use strict";
const fs = require("fs");
const http2 = require("http2");

function serve(log) {
  const server = http2.createServer();
  server.on("stream", (stream, headers) => {
    const path = headers[":path"].split("?")[0];
    const status = { "/post": 201, "/missing": 404 }[path] ?? 200;
    stream.resume();
    stream.on("end", () => {
      stream.respond({ ":status": status });
      stream.end("twelve bytes");
      fs.appendFileSync(log, `${headers[":method"]} ${path} ${status}\n`);
    });
  });
  server.listen(0, "127.0.0.1", () => console.log(server.address().port));
}

async function ask(port, workers, rounds) {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  const request = (method, path, body, status) =>
    new Promise((resolve, reject) => {
      const stream = session.request({ ":method": method, ":path": path });
      let answered = 0;
      stream.on("response", (headers) => (answered = headers[":status"]));
      stream.on("error", reject);
      stream.on("end", () => (answered === status ? resolve() : reject(new Error(`${answered}`))));
      stream.resume();
      stream.end(body);
    });
  const work = async (worker) => {
    for (let round = 0; round < rounds; round++) {
      await request("GET", `/w${worker}/r${round}`, undefined, 200);
      await request("POST", "/post?token=QZQZQZQZ", Buffer.alloc(3000), 201);
      await request("GET", "/missing", undefined, 404);
    }
  };
  await request("GET", "/first", undefined, 200);
  for (const number of workers.split(",")) {
    await Promise.all([...Array(Number(number)).keys()].map(work));
  }
  session.close();
}

const [what, ...rest] = process.argv.slice(2);
if (what === "server") {
  serve(rest[0]);
} else {
  ask(rest[0], rest[1], Number(rest[2]));
}
