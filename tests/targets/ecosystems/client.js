// Sends the plan on standard input with http.request: an agent that keeps its connection, and none
// for what is marked `close`; one JSON line each.
//
// client.js URL
'use strict';
const fs = require('fs');
const url = process.argv[2];
const http = require(url.startsWith('https') ? 'https' : 'http');
const keep = new http.Agent({ keepAlive: true, maxSockets: 1 });
const now = () => BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n;

function send(method, target, size, mode) {
  return new Promise((done, failed) => {
    const headers = size && mode !== 'chunked' ? { 'content-length': size } : {};
    if (mode === 'chunked') headers['transfer-encoding'] = 'chunked';
    const agent = mode === 'close' ? false : keep;
    const body = Buffer.alloc(size, 'x');
    const begin = now();
    const stopwatch = process.hrtime.bigint();
    const request = http.request(url + target, { method, headers, agent, rejectUnauthorized: false });
    request.on('error', failed);
    request.on('response', (response) => {
      let received = 0;
      response.on('data', (piece) => { received += piece.length; });
      response.on('error', failed);
      response.on('end', () => {
        const ns = process.hrtime.bigint() - stopwatch;
        console.log(`{"method":"${method}","target":"${target}","status":${response.statusCode},` +
          `"request":${size},"response":${received},"begin":${begin},"ns":${ns}}`);
        // The agent has its connection back in the next turn of the loop.
        setImmediate(done);
      });
    });
    if (mode === 'chunked') {
      for (let at = 0; at < size; at += 4096) request.write(body.subarray(at, at + 4096));
      request.end();
    } else {
      request.end(size ? body : undefined);
    }
  });
}

(async () => {
  const plan = fs.readFileSync(0, 'utf8').trim().split('\n').map((line) => line.split(' '));
  for (const [method, target, size, mode] of plan) await send(method, target, Number(size), mode);
  keep.destroy();
})().catch((error) => { console.error(error); process.exit(1); });
