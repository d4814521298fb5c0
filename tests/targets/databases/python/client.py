"""redis-py and psycopg; see README.md. Their folder is in PYTHONPATH."""

import os
import sys
import threading

SECRET = "QZQZQZQZ"


def redis_worker(port, number, rounds):
    import redis

    client = redis.Redis(port=port, db=2, password=os.environ["REDISCLI_AUTH"], single_connection_client=True)
    value = f"value:{number}"
    for _ in range(rounds):
        client.set(value, SECRET)
        assert client.get(value) == SECRET.encode()
        client.hset(f"hash:{number}", "field", SECRET)
        with client.pipeline(transaction=False) as pipeline:
            for part in range(4):
                pipeline.set(f"{value}:{part}", SECRET)
            pipeline.execute()
        with client.pipeline(transaction=True) as transaction:
            for _ in range(3):
                transaction.incr(f"count:{number}")
            transaction.execute()
        try:
            client.lpush(value, SECRET)
            raise AssertionError("a list in a string")
        except redis.ResponseError as error:
            assert "WRONGTYPE" in str(error), error
    assert client.eval("return redis.call('STRLEN', KEYS[1])", 1, value) == len(SECRET)
    assert client.blpop(f"nothing:{number}", timeout=0.3) is None
    client.close()


def postgres_worker(port, number, rounds):
    import psycopg

    connection = psycopg.connect(host="127.0.0.1", port=port, dbname="shop", user="clerk", autocommit=True)
    item = number + 1
    for _ in range(rounds):
        rows = connection.execute("SELECT name FROM items WHERE id <= %s", (3,)).fetchall()
        assert len(rows) == 3, rows
        connection.execute("INSERT INTO orders (worker, note) VALUES (%s, %s)", (number, SECRET))
        with connection.transaction():
            connection.execute("UPDATE items SET stock = stock - 1 WHERE id = %s", (item,))
        connection.execute(f"SELECT count(*) FROM items WHERE name <> '{SECRET}'").fetchone()
        with connection.pipeline():
            cursors = [connection.execute("SELECT stock FROM items WHERE id = %s", (item,)) for _ in range(4)]
            assert all(len(cursor.fetchall()) == 1 for cursor in cursors)
        try:
            connection.execute("SELECT 1 / (id - id) FROM items WHERE id = %s", (item,))
            raise AssertionError("a division by zero")
        except psycopg.errors.DivisionByZero:
            pass
    cursor = connection.cursor()
    with cursor.copy("COPY notes (worker, note) FROM STDIN") as copy:
        for _ in range(10):
            copy.write_row((number, SECRET))
    with cursor.copy(f"COPY (SELECT note FROM notes WHERE worker = {number} LIMIT 10) TO STDOUT") as copy:
        assert len(list(copy.rows())) == 10
    connection.close()


def main():
    _, kind, port, workers, rounds = sys.argv
    worker = {"redis": redis_worker, "postgres": postgres_worker}[kind]
    failed = []

    def run(number):
        try:
            worker(int(port), number, int(rounds))
        except BaseException as error:
            failed.append(error)
            raise

    for count in map(int, workers.split(",")):
        threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    sys.exit(1 if failed else 0)


main()
