// ioredis and node-postgres; see README.md. Their folder is in NODE_PATH.
'use strict';
const assert = require('node:assert');

const SECRET = 'QZQZQZQZ';

async function redisWorker(port, number, rounds) {
  const Redis = require('ioredis');
  const client = new Redis({
    port, db: 2, password: process.env.REDISCLI_AUTH, disableClientInfo: true, enableReadyCheck: false, lazyConnect: true,
  });
  await client.connect();
  const value = `value:${number}`;
  for (let round = 0; round < rounds; round++) {
    await client.set(value, SECRET);
    assert.equal(await client.get(value), SECRET);
    await client.hset(`hash:${number}`, 'field', SECRET);
    const pipeline = client.pipeline();
    for (let part = 0; part < 4; part++) pipeline.set(`${value}:${part}`, SECRET);
    await pipeline.exec();
    const transaction = client.multi();
    for (let part = 0; part < 3; part++) transaction.incr(`count:${number}`);
    await transaction.exec();
    await assert.rejects(client.lpush(value, SECRET), /WRONGTYPE/);
  }
  assert.equal(await client.eval("return redis.call('STRLEN', KEYS[1])", 1, value), SECRET.length);
  assert.equal(await client.blpop(`nothing:${number}`, 0.3), null);
  client.disconnect();
}

// One connection that all share: what its users do most.
async function sharedWorker(client, number, rounds) {
  for (let round = 0; round < rounds; round++) {
    await client.set(`value:${number}`, SECRET);
    assert.equal(await client.get(`value:${number}`), SECRET);
  }
}

async function shared(port, workers, rounds) {
  const Redis = require('ioredis');
  const client = new Redis({
    port, db: 2, password: process.env.REDISCLI_AUTH, disableClientInfo: true, enableReadyCheck: false, lazyConnect: true,
  });
  await client.connect();
  await Promise.all(Array.from({ length: workers }, (_, number) => sharedWorker(client, number, rounds)));
  client.disconnect();
}

async function postgresWorker(port, number, rounds) {
  const { Client } = require('pg');
  const client = new Client({ host: '127.0.0.1', port, database: 'shop', user: 'clerk' });
  await client.connect();
  const item = number + 1;
  for (let round = 0; round < rounds; round++) {
    const rows = await client.query('SELECT name FROM items WHERE id <= $1', [3]);
    assert.equal(rows.rowCount, 3);
    await client.query('INSERT INTO orders (worker, note) VALUES ($1, $2)', [number, SECRET]);
    await client.query('BEGIN');
    await client.query('UPDATE items SET stock = stock - 1 WHERE id = $1', [item]);
    await client.query('COMMIT');
    await client.query(`SELECT count(*) FROM items WHERE name <> '${SECRET}'`);
    for (let part = 0; part < 4; part++) {
      // By name, and so prepared once.
      const one = await client.query({ name: 'stock', text: 'SELECT stock FROM items WHERE id = $1', values: [item] });
      assert.equal(one.rowCount, 1);
    }
    await assert.rejects(client.query('SELECT 1 / (id - id) FROM items WHERE id = $1', [item]), { code: '22012' });
  }
  await client.end();
}

async function main() {
  const [kind, port, workers, rounds] = process.argv.slice(2);
  for (const count of workers.split(',').map(Number)) {
    if (kind === 'shared') {
      await shared(Number(port), count, Number(rounds));
      continue;
    }
    const worker = { redis: redisWorker, postgres: postgresWorker }[kind];
    const all = Array.from({ length: count }, (_, number) => worker(Number(port), number, Number(rounds)));
    await Promise.all(all);
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
