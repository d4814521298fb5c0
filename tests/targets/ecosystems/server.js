// Answers as the plan of tests/src/plan.rs wants it, with node's own http or https, and logs it.
//
// server.js LOG [FOLDER]: with FOLDER over TLS, by the cert.pem and key.pem in it.
'use strict';
const fs = require('fs');
const [log, folder] = process.argv.slice(2);
const now = () => BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n;

function answer(request, response) {
  const begin = now();
  const stopwatch = process.hrtime.bigint();
  let received = 0;
  request.on('data', (piece) => { received += piece.length; });
  request.on('end', () => {
    const [, kind, size] = request.url.split('?')[0].split('/');
    const status = { nothing: 204, same: 304, missing: 404, broken: 500 }[kind] ?? 200;
    const none = ['empty', 'nothing', 'same'].includes(kind);
    const content = Buffer.alloc(size ? Number(size) : none ? 0 : 5, 'x');
    const sent = request.method === 'HEAD' ? 0 : content.length;
    response.statusCode = status;
    if (kind === 'close') response.setHeader('connection', 'close');
    response.on('finish', () => {
      const ns = process.hrtime.bigint() - stopwatch;
      fs.appendFileSync(log, `{"method":"${request.method}","target":"${request.url}",` +
        `"status":${status},"request":${received},"response":${sent},` +
        `"begin":${begin},"ns":${ns}}\n`);
    });
    if (kind !== 'chunked' && status !== 204 && status !== 304) {
      response.setHeader('content-length', content.length);
    }
    const end = () => {
      for (let at = 0; at < sent; at += 4096) response.write(content.subarray(at, at + 4096));
      response.end();
    };
    const wait = request.url.split('wait=')[1];
    if (wait) setTimeout(end, Number(wait)); else end();
  });
}

const tls = folder && {
  cert: fs.readFileSync(`${folder}/cert.pem`), key: fs.readFileSync(`${folder}/key.pem`),
};
const server = tls ? require('https').createServer(tls, answer)
  : require('http').createServer(answer);
// Longer than any pause of a test.
server.keepAliveTimeout = 120000;
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
