//! The main job on an embedded default: two small services, traffic, and the agent beside them.
//!
//! `shop` asks `stock` twice per order; `traffic` orders. The agent is told the two processes by pid
//! and shows their spans; no collector, nothing else on this machine is looked at. It is built as
//! `cargo build` builds it, with the committed kernel object where there is no kernel-side toolchain.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader, ErrorKind},
    net::SocketAddr,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    setup,
    shell::{self, Root, Scratch, cargo, line, target_dir, workspace},
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long to send traffic
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Orders per second
    #[arg(long, default_value_t = 8.0)]
    rate: f64,
}

const PROGRAMS: [&str; 3] = ["stock", "shop", "traffic"];

/// Generous against a crowded machine; attaching takes a fraction of a second.
const READY: Duration = Duration::from_secs(30);

/// For the agent to detach, flush and print; it bounds its own flush well below.
const DRAIN: Duration = Duration::from_secs(20);

pub(crate) fn run(options: &Options) -> Result<()> {
    let root = Root::find("loading kernel programs")?;
    setup::compiler()?;
    shell::run(cargo().args(["build", "--package", "remora", "--bin", "remora"]))?;
    let programs = compile_programs()?;

    let stock = Service::start("stock", Command::new(programs.join("stock")))?;
    let mut shop = Command::new(programs.join("shop"));
    shop.arg(stock.address.to_string());
    let shop = Service::start("shop", shop)?;
    eprintln!("stock: pid {}, shop: pid {}", stock.child.id(), shop.child.id());

    let mut agent = Agent::start(root, &[shop.child.id(), stock.child.id()])?;
    let mut traffic = Command::new(programs.join("traffic"));
    traffic.arg(shop.address.to_string()).arg(options.seconds.to_string());
    let sent = shell::output(traffic.arg(options.rate.to_string()));
    let stopped = agent.stop();
    println!("\nwhat the visitors counted: {}", sent?);
    stopped
}

/// The services need nothing but the standard library, so the compiler alone builds them: a second
/// each, where their Cargo package would build the end-to-end tests' dependencies first.
fn compile_programs() -> Result<PathBuf> {
    let folder = target_dir().join("demo");
    fs::create_dir_all(&folder).with_context(|| format!("in {}", folder.display()))?;
    for name in PROGRAMS {
        let source = workspace().join("tests/programs").join(name).with_extension("rs");
        let mut rustc = Command::new("rustc");
        rustc.current_dir(workspace()).args(["--edition", "2024", "-O", "-o"]);
        shell::run(rustc.arg(folder.join(name)).arg(source))?;
    }
    Ok(folder)
}

/// A started service; ended when dropped.
struct Service {
    child: Child,
    address: SocketAddr,
}

impl Service {
    /// Waits for the line in which the service says where it listens.
    fn start(name: &str, mut command: Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut said = String::new();
        BufReader::new(stdout).read_line(&mut said)?;
        let address = said.trim().strip_prefix("listening on ").and_then(|a| a.parse().ok());
        let Some(address) = address else {
            // It has closed its output without a word: it is ending or has ended.
            let status = child.wait()?;
            bail!("{name} does not listen: {status}");
        };
        Ok(Self { child, address })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Fails only where the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The agent while it runs, by way of sudo where we are not root.
struct Agent {
    child: Child,
    root: Root,
    pid_file: PathBuf,
    _scratch: Scratch,
}

impl Agent {
    /// Starts the agent on these processes and waits until it says that it is attached.
    fn start(root: Root, pids: &[u32]) -> Result<Self> {
        let scratch = Scratch::new("demo")?;
        let socket = scratch.path().join("notify");
        let pid_file = scratch.path().join("pid");
        let notify = UnixDatagram::bind(&socket).context("cannot bind the notify socket")?;

        // The shell becomes the agent and leaves its pid: under sudo our child is another process.
        let mut command = root.command("sh");
        command.args([
            "-c",
            r#"echo $$ >"$1"; NOTIFY_SOCKET="$2"; export NOTIFY_SOCKET; shift 2; exec "$@""#,
        ]);
        command.arg("sh").arg(&pid_file).arg(&socket);
        command.arg(target_dir().join("debug/remora")).arg("run");
        for pid in pids {
            command.args(["--pid", &pid.to_string()]);
        }
        command.args(["--print", "spans"]);
        // The demo needs no collector and must not send to one that this shell is set up for.
        for (name, _) in env::vars_os().filter(|(name, _)| is_otel(name)) {
            command.env_remove(name);
        }
        eprintln!("$ {}", shown(&command));
        let child = command.spawn().context("cannot start the agent")?;
        let mut agent = Self { child, root, pid_file, _scratch: scratch };
        agent.wait_until_ready(&notify)?;
        Ok(agent)
    }

    fn wait_until_ready(&mut self, notify: &UnixDatagram) -> Result<()> {
        notify.set_read_timeout(Some(Duration::from_millis(100)))?;
        let started = Instant::now();
        let mut message = [0; 4096];
        while started.elapsed() < READY {
            match notify.recv(&mut message) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&message[..length]);
                    if text.lines().any(|line| line == "READY=1") {
                        return Ok(());
                    }
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error).context("waiting for the agent"),
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the agent ended before it was attached: {status}");
            }
        }
        bail!("the agent is not attached after {} s", READY.as_secs())
    }

    /// Interrupts the agent as Ctrl-C would, and waits for its closing words.
    fn stop(&mut self) -> Result<()> {
        self.signal("INT")?;
        let started = Instant::now();
        while started.elapsed() < DRAIN {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the agent ended with {status}");
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("the agent still runs {} s after SIGINT", DRAIN.as_secs())
    }

    fn signal(&self, name: &str) -> Result<()> {
        let pid = fs::read_to_string(&self.pid_file).context("the agent left no pid")?;
        shell::output(self.root.command("kill").args([&format!("-{name}"), pid.trim()]))?;
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // On the ways out that are errors the agent may run still; nothing of it may stay.
        if let Ok(None) = self.child.try_wait()
            && self.signal("KILL").is_ok()
        {
            let _ = self.child.wait();
        }
    }
}

fn is_otel(variable: &OsStr) -> bool {
    variable.as_encoded_bytes().starts_with(b"OTEL_")
}

/// The agent's own command line, without what starts it.
fn shown(command: &Command) -> String {
    let whole = line(command);
    let agent = whole.rfind("/remora run").map(|at| whole[at..].trim_start_matches('/').to_owned());
    agent.unwrap_or(whole)
}
