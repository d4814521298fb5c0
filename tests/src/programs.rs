//! Servers and clients of the ecosystems, as their programmers write them: `targets/ecosystems/` has those
//! of interpreters and of Go and Java, which are built when they are first needed, `programs/` those of Rust.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use tempfile::TempDir;

use crate::process::{Running, output};

/// Whose server, whose client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ecosystem {
    Python,
    Node,
    Go,
    Java,
    Rust,
    Ruby,
}

/// A file in `targets/`.
#[must_use]
pub fn target(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("targets").join(name)
}

/// Cargo's folder of what was built, which the running test is in.
///
/// # Panics
/// Never: a test program lies in one.
#[must_use]
pub fn built() -> PathBuf {
    let program = std::env::current_exe().expect("a path");
    let folder = program.parent().expect("in a folder");
    let profile = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    profile.expect("target/PROFILE").to_owned()
}

impl Ecosystem {
    /// What must be installed.
    #[must_use]
    pub fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Python => &["python3"],
            Self::Node => &["node"],
            Self::Go => &["go"],
            Self::Java => &["java", "javac"],
            Self::Rust => &[],
            Self::Ruby => &["ruby"],
        }
    }

    fn program(self, what: &str) -> Command {
        let script = |interpreter: &str, suffix: &str| {
            let mut command = Command::new(interpreter);
            command.arg(target(&format!("ecosystems/{what}.{suffix}")));
            command
        };
        match self {
            Self::Python => script("python3", "py"),
            Self::Node => script("node", "js"),
            Self::Ruby => script("ruby", "rb"),
            Self::Go => Command::new(go().join(what)),
            Self::Rust => Command::new(built().join(format!("hyper_{what}"))),
            Self::Java => {
                // Its client hands each answer from thread to thread. On a busy machine each time would
                // be a wait for others' time slices, which its stopwatch measures and no span has.
                let mut command = Command::new("nice");
                command.args(["-n", "-15", "java"]);
                // Small and quick to start. Its server writes head and content apart: without
                // TCP_NODELAY each answer would wait for a delayed acknowledgement.
                command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m"]);
                command.arg("-Dsun.net.httpserver.nodelay=true");
                let name = if what == "server" { "Server" } else { "Client" };
                command.arg("-cp").arg(java()).arg(name);
                command
            }
        }
    }

    /// Its client, which waits for a plan.
    #[must_use]
    pub fn client(self, url: &str) -> Command {
        let mut command = self.program("client");
        command.arg(url);
        command
    }
}

/// A server that logs its requests.
pub struct Server {
    process: Running,
    pub port: u16,
    folder: TempDir,
}

impl Server {
    /// Over TLS if `certificate` is the folder of one.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(ecosystem: Ecosystem, certificate: Option<&Path>) -> Self {
        let mut command = ecosystem.program("server");
        Self::run(&mut command, certificate)
    }

    /// In plaintext, with its service's name in its environment.
    #[must_use]
    pub fn named(ecosystem: Ecosystem, service: Option<&str>) -> Self {
        let mut command = ecosystem.program("server");
        command.envs(service.map(|service| ("OTEL_SERVICE_NAME", service)));
        Self::run(&mut command, None)
    }

    /// The same for any program that takes the place of its log and the folder of a certificate.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn of(command: &mut Command, certificate: &Path) -> Self {
        Self::run(command, Some(certificate))
    }

    fn run(command: &mut Command, certificate: Option<&Path>) -> Self {
        let folder = TempDir::new().expect("a folder");
        command.arg(folder.path().join("log")).args(certificate);
        let mut process = Running::start(command);
        let port = process.line().parse().expect("a port");
        Self { process, port, folder }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The lines of its log so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        whole.map(str::to_owned).collect()
    }
}

/// A folder with a [`certificate`].
///
/// # Panics
/// If there is no room for one, or openssl does not make it.
#[must_use]
pub fn new_certificate() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    certificate(folder.path());
    folder
}

/// A certificate for one test: `cert.pem`, `key.pem`, and both in a `keystore.p12`.
///
/// # Panics
/// If openssl does not make it.
pub fn certificate(folder: &Path) {
    let file = |name: &str| folder.join(name).into_os_string();
    let (key, cert) = (file("key.pem"), file("cert.pem"));
    output(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=t"])
            .args(["-keyout".as_ref(), &*key, "-out".as_ref(), &cert]),
    );
    output(
        Command::new("openssl")
            .args(["pkcs12", "-export", "-passout", "pass:changeit", "-inkey"])
            .args([&*key, "-in".as_ref(), &cert, "-out".as_ref(), &file("keystore.p12")]),
    );
}

/// Builds what is built when it is first needed, for machines on which that takes long. What cannot be
/// built is left to those who need it, who skip or fail.
pub fn build_all() {
    if !crate::skip::without(Ecosystem::Go.needs()) {
        go();
    }
    if !crate::skip::without(Ecosystem::Java.needs()) {
        java();
    }
}

/// Where the Go programs are.
fn go() -> PathBuf {
    build("ecosystems/go", &["go.mod", "server/main.go", "client/main.go"], |sources, to| {
        let mut go = Command::new("go");
        go.args(["build", "-o"]).arg(to).args(["./server", "./client"]).current_dir(sources);
        // The toolchain that is here, and no look at a repository around the sources.
        go.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-buildvcs=false").env("CGO_ENABLED", "0");
        output(&mut go);
    })
}

/// Where `plain` and `stripped` are, a Go service that asks another one while it serves (`targets/parents`).
#[must_use]
pub fn go_parents() -> PathBuf {
    build("parents", &["main.go", "go.mod"], |sources, to| {
        for (name, flags) in [("plain", ""), ("stripped", "-s -w")] {
            let mut go = Command::new("go");
            go.args(["build", "-ldflags", flags, "-o"]).arg(to.join(name)).current_dir(sources);
            go.env("GOTOOLCHAIN", "local")
                .env("GOFLAGS", "-buildvcs=false")
                .env("CGO_ENABLED", "0");
            output(&mut go);
        }
    })
}

/// Where the Java programs are.
fn java() -> PathBuf {
    build("ecosystems", &["Server.java", "Client.java"], |sources, to| {
        let mut javac = Command::new("javac");
        javac.arg("-d").arg(to).args(["Server.java", "Client.java"]).current_dir(sources);
        output(&mut javac);
    })
}

/// A folder of what `build` makes of `files` in `targets/FOLDER`: made anew when one of them is newer.
fn build(folder: &str, files: &[&str], build: impl FnOnce(&Path, &Path)) -> PathBuf {
    let sources = target(folder);
    let name = format!("{}-programs", files[0].rsplit('.').next().expect("a suffix"));
    let to = built().join(name);
    let stamp = to.join("stamp");
    let time = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    let newest: SystemTime = files
        .iter()
        .map(|file| time(&sources.join(file)).unwrap_or_else(|error| panic!("{file}: {error}")))
        .max()
        .expect("some files");
    let fresh = || time(&stamp).is_ok_and(|built| built > newest);
    if fresh() {
        return to;
    }
    fs::create_dir_all(&to).expect("a folder");
    // Tests run side by side, also those of other programs.
    let lock = File::create(to.join("lock")).expect("a file");
    lock.lock().expect("a lock");
    if !fresh() {
        build(&sources, &to);
        fs::write(&stamp, "").expect("a file");
    }
    to
}

/// The demo's two services: a shop that asks a stock twice for each order.
pub struct Shop {
    shop: Running,
    stock: Running,
    port: u16,
}

impl Shop {
    /// # Panics
    /// If they do not start.
    #[must_use]
    pub fn start() -> Self {
        let start = |name: &str, arguments: &[&str]| {
            let mut service = Command::new(built().join(name));
            let mut service = Running::start(service.args(arguments));
            let line = service.line();
            let address = line.rsplit(' ').next().expect("an address").to_owned();
            (service, address)
        };
        let (stock, address) = start("stock", &[]);
        let (shop, address) = start("shop", &[&address]);
        let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
        Self { shop, stock, port: port.expect("a port") }
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    #[must_use]
    pub fn pids(&self) -> [u32; 2] {
        [self.shop.pid(), self.stock.pid()]
    }
}
