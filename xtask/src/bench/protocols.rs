//! Protocols beside HTTP/1 as the gate counts them: a server, and one connection whose requests are all alike.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{
    http2::{Http2Connection, Request},
    load::{Ask, KeptConnection},
    program::{Nginx, Program, copied, free_port, listening, until},
};
use crate::{
    apt,
    shell::{self, Scratch, output, target_dir},
};

/// The table that is asked, made before: a guest takes minutes for what an empty cluster needs.
const SCHEMA: &str = "CREATE TABLE items AS SELECT id, 'item ' || id AS name FROM generate_series(1, 1000) AS id;\n\
                      ALTER TABLE items ADD PRIMARY KEY (id);\nVACUUM ANALYZE items;\n";

const QUESTION: &str = "SELECT name FROM items WHERE id = 7";

/// What is in a guest at this place: [`cluster`] is copied there.
pub(crate) const GUEST_CLUSTER: &str = "/tmp/postgres";

pub(crate) fn install() -> Result<()> {
    apt::ensure(&["postgres", "redis-server", "setpriv"])
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http2,
    /// Calls as gRPC writes them, answered by nginx: what a server of gRPC does besides does not count.
    Grpc,
    Redis,
    Postgres,
}

/// One that runs.
pub(crate) enum Server {
    Nginx { nginx: Nginx, request: Request },
    Redis { process: Program, port: u16, _folder: Scratch },
    Postgres { process: Program, port: u16, _folder: Scratch },
}

impl Protocol {
    pub(crate) const ALL: [Self; 4] = [Self::Http2, Self::Grpc, Self::Redis, Self::Postgres];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Http2 => "http/2",
            Self::Grpc => "grpc unary",
            Self::Redis => "redis GET",
            Self::Postgres => "postgresql simple query",
        }
    }

    pub(crate) fn start(self) -> Result<Server> {
        match self {
            Self::Http2 => Server::nginx(Request::Get),
            Self::Grpc => Server::nginx(Request::Grpc),
            Self::Redis => Server::redis(),
            Self::Postgres => Server::postgres(),
        }
    }
}

impl Server {
    fn nginx(request: Request) -> Result<Self> {
        Ok(Self::Nginx { nginx: Nginx::http2("bench-http2")?, request })
    }

    fn redis() -> Result<Self> {
        let (folder, port) = (folder()?, free_port()?);
        let mut redis = Command::new(copied("redis-server", folder.path())?);
        // It looks at its clients once a second, not ten times.
        redis.args(["--bind", "127.0.0.1", "--save", "", "--hz", "1"]);
        redis.args(["--port", &port.to_string()]);
        let process = start(&mut redis, &folder)?;
        listening(port)?;
        Ok(Self::Redis { process, port, _folder: folder })
    }

    fn postgres() -> Result<Self> {
        let (folder, port) = (folder()?, free_port()?);
        let mut postgres = as_postgres(&program("postgres")?);
        postgres.args(["-D", GUEST_CLUSTER, "-p", &port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "autovacuum=off",
            "fsync=off",
            "max_connections=10",
            "shared_buffers=16MB",
        ] {
            postgres.args(["-c", setting]);
        }
        let process = start(&mut postgres, &folder)?;
        // It listens before it answers.
        until("PostgreSQL", || KeptConnection::postgres(port, QUESTION).ok())?;
        Ok(Self::Postgres { process, port, _folder: folder })
    }

    /// What an agent is told to watch.
    pub(crate) fn pid(&self) -> u32 {
        match self {
            Self::Nginx { nginx, .. } => nginx.worker,
            Self::Redis { process, .. } | Self::Postgres { process, .. } => process.pid(),
        }
    }

    /// A new connection, and the process that serves it.
    pub(crate) fn connect(&self) -> Result<(Box<dyn Ask>, u32)> {
        match self {
            Self::Nginx { nginx, request } => {
                Ok((Box::new(Http2Connection::open(nginx.port, *request)?), nginx.worker))
            }
            Self::Redis { port, .. } => Ok((Box::new(KeptConnection::redis(*port)?), self.pid())),
            Self::Postgres { port, .. } => {
                let (connection, serving) = KeptConnection::postgres(*port, QUESTION)?;
                Ok((Box::new(connection), serving))
            }
        }
    }
}

fn folder() -> Result<Scratch> {
    let folder = Scratch::new("bench-database")?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777))?;
    Ok(folder)
}

fn start(command: &mut Command, folder: &Scratch) -> Result<Program> {
    command.current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
    Program::start(command)
}

fn program(name: &str) -> Result<PathBuf> {
    apt::find(name).with_context(|| format!("there is no {name}"))
}

/// It does not run as root.
fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]).arg(program);
    command
}

/// A data folder with the table, made if it is not there, by PostgreSQL's version.
pub(crate) fn cluster() -> Result<PathBuf> {
    let server = fs::canonicalize(program("postgres")?)?;
    let version = output(Command::new(&server).arg("--version"))?;
    let version = version.split(' ').nth(2).context("PostgreSQL does not say its version")?;
    let place = target_dir().join("bench").join(format!("postgres-{version}"));
    if place.is_dir() {
        return Ok(place);
    }
    let folder = Scratch::new("bench-cluster")?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777))?;
    let data = folder.path().join("data");
    let mut initdb = as_postgres(&server.with_file_name("initdb"));
    initdb.args(["--auth=trust", "--username=postgres", "--no-sync", "--locale=C"]);
    initdb.args(["--encoding=UTF8", "--wal-segsize=1", "--pgdata"]).arg(&data);
    output(initdb.current_dir(folder.path()))?;
    let input = folder.path().join("schema.sql");
    fs::write(&input, SCHEMA)?;
    let mut single = as_postgres(&server);
    single.args(["--single", "-D"]).arg(&data).arg("postgres").current_dir(folder.path());
    single.stdin(fs::File::open(input)?).stdout(Stdio::null()).stderr(Stdio::null());
    let status = single.status().context("cannot run postgres")?;
    if !status.success() {
        bail!("postgres --single: {status}");
    }
    // Whole or not at all.
    let partial =
        place.with_file_name(format!("postgres-{version}-partial-{}", std::process::id()));
    fs::create_dir_all(partial.parent().context("a folder")?)?;
    shell::run(Command::new("cp").arg("-a").arg(&data).arg(&partial))?;
    fs::rename(&partial, &place)?;
    Ok(place)
}
