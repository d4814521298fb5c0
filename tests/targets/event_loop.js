// An event loop: each request asks another service twice, one after the other or both at once.
// Arguments: the other service's port.
const http = require('node:http');

const backend = Number(process.argv[2]);
const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });

function ask(path) {
  return new Promise((resolve, reject) => {
    http
      .get({ host: '127.0.0.1', port: backend, path, agent }, (response) => {
        response.resume().on('end', resolve);
      })
      .on('error', reject);
  });
}

let number = 0;
const server = http.createServer(async (request, response) => {
  const name = request.url.split('/').at(-1);
  number += 1;
  if (number % 2 === 0) {
    await Promise.all([ask(`/first/${name}`), ask(`/second/${name}`)]);
  } else {
    await ask(`/first/${name}`);
    await new Promise(setImmediate);
    await ask(`/second/${name}`);
  }
  response.setHeader('content-length', 4);
  response.end('done');
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
