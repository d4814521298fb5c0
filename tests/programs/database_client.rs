//! The crates `redis` and `tokio-postgres`; see targets/databases/README.md.

use std::{env, error::Error, thread};

use futures_util::{SinkExt as _, TryStreamExt as _, future::try_join_all};
use redis::{Client, Commands as _, RedisResult, Value};
use tokio_postgres::{Config, NoTls, error::SqlState, types::ToSql};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const SECRET: &str = "QZQZQZQZ";

fn ensure(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(what.into()) }
}

fn redis_worker(port: u16, number: usize, rounds: usize) -> Result<()> {
    let password = env::var("REDISCLI_AUTH")?;
    let client = Client::open(format!("redis://:{password}@127.0.0.1:{port}/2"))?;
    let mut connection = client.get_connection()?;
    let value = format!("value:{number}");
    for _ in 0..rounds {
        let () = connection.set(&value, SECRET)?;
        let got: String = connection.get(&value)?;
        ensure(got == SECRET, "another value")?;
        let () = connection.hset(format!("hash:{number}"), "field", SECRET)?;
        let mut pipeline = redis::pipe();
        for part in 0..4 {
            pipeline.set(format!("{value}:{part}"), SECRET).ignore();
        }
        let () = pipeline.query(&mut connection)?;
        let mut transaction = redis::pipe();
        transaction.atomic();
        for _ in 0..3 {
            transaction.incr(format!("count:{number}"), 1).ignore();
        }
        let () = transaction.query(&mut connection)?;
        let list: RedisResult<()> = connection.lpush(&value, SECRET);
        ensure(list.is_err_and(|error| error.code() == Some("WRONGTYPE")), "a list in a string")?;
    }
    let mut script = redis::cmd("EVAL");
    script.arg("return redis.call('STRLEN', KEYS[1])").arg(1).arg(&value);
    let length: usize = script.query(&mut connection)?;
    ensure(length == SECRET.len(), "another length")?;
    let nothing: Value = connection.blpop(format!("nothing:{number}"), 0.3)?;
    ensure(nothing == Value::Nil, "something of nothing")
}

async fn postgres_worker(port: u16, number: usize, rounds: usize) -> Result<()> {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).dbname("shop").user("clerk");
    config.password(env::var("PGPASSWORD")?);
    let (mut client, connection) = config.connect(NoTls).await?;
    let connection = tokio::spawn(connection);
    let (worker, item) = (i32::try_from(number)?, i32::try_from(number)? + 1);
    for _ in 0..rounds {
        let names = client.query("SELECT name FROM items WHERE id <= $1", &[&3i32]).await?;
        ensure(names.len() == 3, "three rows")?;
        let insert = "INSERT INTO orders (worker, note) VALUES ($1, $2)";
        client.execute(insert, &[&worker, &SECRET]).await?;
        let transaction = client.transaction().await?;
        let update = "UPDATE items SET stock = stock - 1 WHERE id = $1";
        transaction.execute(update, &[&item]).await?;
        transaction.commit().await?;
        let literal = format!("SELECT count(*) FROM items WHERE name <> '{SECRET}'");
        client.simple_query(&literal).await?;
        let statement = client.prepare("SELECT stock FROM items WHERE id = $1").await?;
        let parameters: [&(dyn ToSql + Sync); 1] = [&item];
        let one = || client.query(&statement, &parameters);
        ensure(
            try_join_all((0..4).map(|_| one())).await?.iter().all(|rows| rows.len() == 1),
            "a row",
        )?;
        let division = "SELECT 1 / (id - id) FROM items WHERE id = $1";
        let error = client.query(division, &[&item]).await.err().ok_or("a division by zero")?;
        ensure(error.code() == Some(&SqlState::DIVISION_BY_ZERO), "another error")?;
    }
    let notes = client.copy_in("COPY notes (worker, note) FROM STDIN").await?;
    let mut notes = std::pin::pin!(notes);
    notes.send(bytes::Bytes::from(format!("{number}\t{SECRET}\n").repeat(10))).await?;
    ensure(notes.finish().await? == 10, "ten rows in")?;
    let what = format!("COPY (SELECT note FROM notes WHERE worker = {number} LIMIT 10) TO STDOUT");
    let rows: Vec<bytes::Bytes> = client.copy_out(&what).await?.try_collect().await?;
    ensure(rows.len() == 10, "ten rows out")?;
    drop(client);
    Ok(connection.await??)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [kind, port, workers, rounds] = &arguments[..] else {
        return Err("database_client redis|postgres PORT WORKERS ROUNDS".into());
    };
    let (port, rounds) = (port.parse()?, rounds.parse()?);
    for count in workers.split(',') {
        let count: usize = count.parse()?;
        if kind == "redis" {
            let threads =
                (0..count).map(|number| thread::spawn(move || redis_worker(port, number, rounds)));
            let threads: Vec<_> = threads.collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a panic")?)?;
        } else {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let all = try_join_all((0..count).map(|number| postgres_worker(port, number, rounds)));
            runtime.block_on(all)?;
        }
    }
    Ok(())
}
