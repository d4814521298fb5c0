//! PostgreSQL with a folder of its own, and what it says itself: `pg_stat_statements` and its log.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    database_clients::SECRET,
    process::{Running, free_port, output, until},
    programs::certificate,
};

/// What is there before anybody comes. Workers 0 to 99 have an item each.
const SCHEMA: &str = "
    CREATE EXTENSION pg_stat_statements;
    CREATE ROLE clerk LOGIN PASSWORD '@SECRET@';
    CREATE ROLE teller LOGIN PASSWORD '@SECRET@';
    CREATE TABLE items (id int PRIMARY KEY, name text NOT NULL, stock int NOT NULL);
    CREATE TABLE orders (id serial PRIMARY KEY, worker int NOT NULL, note text NOT NULL);
    CREATE TABLE notes (worker int NOT NULL, note text NOT NULL);
    INSERT INTO items SELECT id, 'item ' || id, 1000000 FROM generate_series(1, 100) AS id;
    GRANT ALL ON ALL TABLES IN SCHEMA public TO clerk;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO clerk;
    GRANT CREATE ON SCHEMA public TO clerk;";

/// One that runs; ended with everything that it has started.
pub struct Postgres {
    process: Running,
    port: u16,
    folder: TempDir,
}

/// Everything that was said in one form, and how often; rows that came back or were changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub calls: u64,
    pub rows: u64,
}

/// A line of the server's log.
#[derive(Clone, Debug)]
pub struct Line {
    pub severity: String,
    /// SQLSTATE.
    pub code: String,
    pub message: String,
    /// The statement that an error belongs to.
    pub statement: String,
}

impl Line {
    /// Whether the server says that it executes this statement: `statement: BEGIN`, `execute S_1: BEGIN`.
    fn executes(&self, text: &str) -> bool {
        let said = self.message.strip_prefix("statement: ").or_else(|| {
            let (_, said) = self.message.strip_prefix("execute ")?.split_once(": ")?;
            Some(said)
        });
        said.is_some_and(|said| normal(said) == text)
    }
}

/// Where the server's programs are, newest first: Debian keeps them out of `PATH`.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let folders = versions.map(|version| version.path().join("bin"));
    folders.filter(|folder| folder.join("postgres").is_file()).max()
}

/// Whether it is missing; prints the reason to skip if so.
#[must_use]
pub fn missing() -> bool {
    let missing = programs().is_none() || account().is_none();
    if missing {
        println!("skipped: there is no PostgreSQL in /usr/lib/postgresql, or no user of it");
    }
    missing || crate::skip::without(&["psql", "setpriv"])
}

/// User and group `postgres`: the server does not run as root.
fn account() -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.starts_with("postgres:"))?;
    let fields: Vec<&str> = line.split(':').collect();
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

impl Postgres {
    /// Returns when it listens, on a port and on a Unix socket; it has the database `shop` and the users `clerk`
    /// and `teller`, whose passwords over the port are [`SECRET`], of the latter in plain text.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::with("", |_| {})
    }

    /// One that also speaks TLS.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn with_tls() -> Self {
        let settings = "ssl = on\nssl_cert_file = 'cert.pem'\nssl_key_file = 'key.pem'\n";
        Self::with(settings, |data| {
            certificate(data);
            let (user, group) = account().expect("looked for before");
            for name in ["cert.pem", "key.pem"] {
                chown(data.join(name), Some(user), Some(group)).expect("we are root");
            }
        })
    }

    fn with(settings: &str, fill: impl FnOnce(&Path)) -> Self {
        let folder = TempDir::new().expect("a folder");
        let (user, group) = account().expect("looked for before");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("our folder");
        chown(folder.path(), Some(user), Some(group)).expect("we are root");
        let data = folder.path().join("data");
        let mut initdb = server_program("initdb");
        initdb.args(["--auth-local=trust", "--auth-host=scram-sha-256", "--username=postgres"]);
        initdb.args(["--no-sync", "--locale=C", "--encoding=UTF8", "--pgdata"]).arg(&data);
        output(initdb.current_dir(&folder));
        let port = free_port();
        let root = folder.path().display();
        let own = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{root}'\n\
             fsync = off\nfull_page_writes = off\nautovacuum = off\nmax_connections = 120\n\
             shared_preload_libraries = 'pg_stat_statements'\n\
             logging_collector = on\nlog_destination = jsonlog\nlog_directory = '{root}'\n\
             log_filename = log\nlog_statement = all\n{settings}"
        );
        // The password of one user is sent as it is.
        let access = data.join("pg_hba.conf");
        let given = fs::read_to_string(&access).expect("initdb wrote it");
        let first = "host all teller 127.0.0.1/32 password\n".to_owned();
        fs::write(access, first + &given).expect("a file");
        let file = data.join("postgresql.conf");
        let given = fs::read_to_string(&file).expect("initdb wrote it");
        fs::write(file, given + &own).expect("a file");
        fill(&data);
        let mut server = server_program("postgres");
        server.arg("-D").arg(&data).current_dir(&folder).stdin(Stdio::null());
        let process = Running::start(server.stderr(Stdio::null()));
        let server = Self { process, port, folder };
        until("PostgreSQL", || {
            let mut one = server.psql("postgres", "postgres");
            let quiet = one.args(["-c", "SELECT 1"]).stdout(Stdio::null()).stderr(Stdio::null());
            quiet.status().expect("psql").success()
        });
        server.run("postgres", "CREATE DATABASE shop");
        server.run("shop", &SCHEMA.replace("@SECRET@", SECRET));
        server
    }

    /// The postmaster; it has a process for each connection.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// All of its processes, those of connections that are open among them.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.process.family()
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its Unix socket.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// psql over the Unix socket, as a program uses it.
    #[must_use]
    pub fn psql(&self, database: &str, user: &str) -> Command {
        self.client("psql", &self.folder.path().display().to_string(), database, user)
    }

    /// psql over the port.
    #[must_use]
    pub fn psql_by_port(&self, database: &str, user: &str) -> Command {
        self.client("psql", "127.0.0.1", database, user)
    }

    fn client(&self, program: &str, host: &str, database: &str, user: &str) -> Command {
        let mut client = Command::new(program);
        if program == "psql" {
            client.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]);
            client.args(["-v", "ON_ERROR_STOP=0"]);
        }
        client.args(["-h", host, "-p", &self.port.to_string(), "-U", user, "-d", database]);
        client.env("PGPASSWORD", SECRET).env("PGSSLMODE", "disable").env("PGGSSENCMODE", "disable");
        client
    }

    /// pgbench over the port, as `clerk`.
    #[must_use]
    pub fn pgbench(&self) -> Command {
        let mut bench = Command::new(programs().expect("looked for before").join("pgbench"));
        bench.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "clerk"]);
        bench.env("PGPASSWORD", SECRET).env("PGSSLMODE", "disable").env("PGGSSENCMODE", "disable");
        bench.env("PGDATABASE", "shop");
        bench
    }

    /// Carries out `sql` over the Unix socket as the superuser; returns what psql prints.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, database: &str, sql: &str) -> String {
        let mut psql = self.psql(database, "postgres");
        output(psql.args(["-v", "ON_ERROR_STOP=1", "-c", sql]))
    }

    /// From here on statements are counted anew; returns where the log is then.
    pub fn forget(&self) -> usize {
        self.run("shop", "SELECT pg_stat_statements_reset()");
        self.all_is_logged();
        self.log(0).len()
    }

    /// Waits until the log has all that happened before: its collector reads from a pipe, in order, and is late when
    /// the machine is busy.
    fn all_is_logged(&self) {
        let mark = format!("SELECT {}", self.log(0).len());
        self.run("postgres", &mark);
        until("the log's collector", || {
            self.log(0).iter().any(|line| line.executes(&normal(&mark)))
        });
    }

    /// Statements of the database `shop` that succeeded since [`Self::forget`], which returned `log`, in the form
    /// of [`normal`]. How often `BEGIN` and the like were executed the log says: the extension counts a prepared
    /// one once.
    ///
    /// # Panics
    /// If it does not say.
    #[must_use]
    pub fn statements(&self, log: usize) -> BTreeMap<String, Count> {
        let sql = "SELECT json_agg(json_build_object('query', query, 'calls', calls, 'rows', rows)) \
                   FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%' AND dbid = \
                   (SELECT oid FROM pg_database WHERE datname = 'shop')";
        let all: Value = serde_json::from_str(&self.run("shop", sql)).expect("JSON");
        let mut statements = BTreeMap::new();
        for one in all.as_array().into_iter().flatten() {
            let number = |key: &str| one[key].as_u64().expect("a number");
            let text = normal(&without_literals(one["query"].as_str().expect("a text")));
            let count: &mut Count = statements.entry(text).or_default();
            count.calls += number("calls");
            count.rows += number("rows");
        }
        self.all_is_logged();
        let log = self.log(log);
        for (text, count) in &mut statements {
            let ends = ["begin", "start transaction", "commit", "end", "rollback"];
            if ends.contains(&&*text.to_ascii_lowercase()) {
                count.calls = log.iter().filter(|line| line.executes(text)).count() as u64;
            }
        }
        statements
    }

    /// Its log from line `from` on, whole lines only.
    ///
    /// # Panics
    /// If a line is not one.
    #[must_use]
    pub fn log(&self, from: usize) -> Vec<Line> {
        let text = fs::read_to_string(self.folder.path().join("log.json")).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let parse = |line: &str| {
            let line: Value = serde_json::from_str(line).expect("a line of JSON");
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            Line {
                severity: text("error_severity"),
                code: text("state_code"),
                message: text("message"),
                statement: text("statement"),
            }
        };
        whole.skip(from).map(parse).collect()
    }

    /// SQLSTATEs that its log has from line `from` on, and how often.
    #[must_use]
    pub fn errors(&self, from: usize) -> BTreeMap<String, u64> {
        self.all_is_logged();
        let mut errors = BTreeMap::new();
        let failed = |line: &&Line| matches!(&*line.severity, "ERROR" | "FATAL");
        for line in self.log(from).iter().filter(failed) {
            *errors.entry(line.code.clone()).or_default() += 1;
        }
        errors
    }

    /// Lets its clients finish and ends it; afterwards all of its system calls have returned.
    pub fn quit(mut self) {
        self.process.signal(libc::SIGINT);
        self.process.wait();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It takes along all that it has started, if it is not killed.
        self.process.signal(libc::SIGQUIT);
        self.process.wait();
    }
}

/// As the user `postgres`; it goes with this process.
fn server_program(name: &str) -> Command {
    let (user, group) = account().expect("looked for before");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user.to_string(), "--regid", &group.to_string(), "--clear-groups"]);
    command.arg(programs().expect("looked for before").join(name));
    command
}

/// A statement as both sides can be brought to say it: parameters and literals are `?`, space is one blank,
/// no semicolon at the end.
#[must_use]
pub fn normal(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.trim().trim_end_matches(';').chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '$' if rest.peek().is_some_and(char::is_ascii_digit) => {
                while rest.next_if(char::is_ascii_digit).is_some() {}
                out.push('?');
            }
            space if space.is_whitespace() => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            other => out.push(other),
        }
    }
    out.trim_end().to_owned()
}

/// What `pg_stat_statements` leaves as it is in statements that are not queries: numbers and quoted texts.
fn without_literals(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        let in_word = out.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        match next {
            '\'' => {
                let _ = rest.by_ref().find(|&c| c == '\'');
                out.push('?');
            }
            digit if digit.is_ascii_digit() && !in_word => {
                while rest.next_if(|c| c.is_ascii_digit() || *c == '.').is_some() {}
                out.push('?');
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_brought_to_one_form() {
        assert_eq!(normal("SELECT  a\n FROM t1 WHERE b = $12 ;"), "SELECT a FROM t1 WHERE b = ?");
        let copy = "COPY (SELECT a1 FROM t WHERE b = 25 AND c = 'x y') TO STDOUT";
        assert_eq!(
            without_literals(copy),
            "COPY (SELECT a1 FROM t WHERE b = ? AND c = ?) TO STDOUT"
        );
        assert_eq!(without_literals("a = $1"), "a = $1");
    }
}
