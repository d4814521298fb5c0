//! How does a kernel run here? QEMU emulates the processor in software; virtiofsd hands this machine's
//! file system in, read-only. Both end when a [`Guest`] is dropped.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{initramfs, kernels::Kernel};
use crate::shell::{Root, is_root, output};

/// Where Debian and Ubuntu (first) and others put virtiofsd.
pub(crate) const VIRTIOFSD: [&str; 2] = ["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"];

/// A guest that has not said "up" by then will not.
const BOOT: Duration = Duration::from_secs(60);

/// The same with a system of its own, whose services are started first.
const SYSTEM_BOOT: Duration = Duration::from_secs(300);

/// How time passes in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// Two processors, the time outside.
    Wall,
    /// One processor, and time is its instructions, a nanosecond each.
    Instructions,
}

/// What a guest is given besides its kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine<'a> {
    /// Folders of this machine that are there, too.
    pub(crate) trees: &'a [PathBuf],
    pub(crate) clock: Clock,
    /// A folder with a system whose init is started, the job as one of its services; otherwise the guest
    /// has this machine's files, and the job is all that runs.
    pub(crate) system: Option<&'a Path>,
}

/// How a job ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With this exit status.
    Status(i32),
    /// Not within its time.
    TimedOut,
    /// The guest went away without a word: a crash of its kernel, or of QEMU.
    Lost,
}

/// Boots `kernel`, runs `job` in it, hands each line of its output to `line`.
///
/// # Errors
/// If the guest does not come up, twice. Whatever happens later is an [`End`].
pub(crate) fn run(
    kernel: &Kernel,
    job: &str,
    machine: Machine<'_>,
    limit: Duration,
    line: &mut dyn FnMut(&str),
) -> Result<End> {
    let initramfs = initramfs::build(kernel, job)?;
    let mut failure = None;
    for _ in 0..2 {
        match Guest::boot(kernel, &initramfs, machine) {
            Ok(guest) => return guest.attend(limit, line),
            Err(error) => {
                eprintln!("warning: {}: {error:#}", kernel.release);
                failure = Some(error);
            }
        }
    }
    Err(failure.context("the guest was never started")?)
}

/// A guest that is up.
struct Guest {
    qemu: Ended,
    /// Ends by itself when QEMU does.
    _files: Ended,
    output: mpsc::Receiver<String>,
    control: mpsc::Receiver<String>,
    folder: Folder,
}

impl Guest {
    fn boot(kernel: &Kernel, initramfs: &[u8], machine: Machine<'_>) -> Result<Self> {
        let limit = if machine.system.is_some() { SYSTEM_BOOT } else { BOOT };
        let folder = Folder::new()?;
        let initramfs_file = folder.0.join("initramfs");
        fs::write(&initramfs_file, initramfs)?;
        let files = share(&folder.0)?;
        let output = lines(&folder.0.join("output"))?;
        let control = lines(&folder.0.join("control"))?;
        let mut command = qemu(kernel, &folder.0, machine);
        let log = fs::File::create(folder.0.join("qemu.log"))?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let mut qemu = Ended(child.context("cannot run qemu-system-x86_64")?);
        let started = Instant::now();
        loop {
            match control.recv_timeout(Duration::from_millis(100)) {
                Ok(word) if word == "up" => break,
                Ok(word) => bail!("the guest said {word:?}, expected \"up\""),
                Err(_) if started.elapsed() > limit => {
                    bail!("not up after {} s\n{}", limit.as_secs(), last_words(&folder.0));
                }
                Err(_) => {
                    if let Some(status) = qemu.0.try_wait()? {
                        bail!("QEMU ended ({status}) at boot\n{}", last_words(&folder.0));
                    }
                }
            }
        }
        eprintln!("vm: {} is up after {:.1} s", kernel.release, started.elapsed().as_secs_f64());
        Ok(Self { qemu, _files: files, output, control, folder })
    }

    /// Reads the job's output until it ends.
    fn attend(mut self, limit: Duration, line: &mut dyn FnMut(&str)) -> Result<End> {
        let started = Instant::now();
        loop {
            match self.output.recv_timeout(Duration::from_secs(1)) {
                Ok(text) => line(&text),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            if started.elapsed() > limit {
                self.qemu.end();
                self.output.iter().for_each(|text| line(&text));
                return Ok(End::TimedOut);
            }
        }
        // QEMU has ended: what it said last is on its way at most.
        let word = self.control.recv_timeout(Duration::from_secs(5)).unwrap_or_default();
        let Some(status) = word.strip_prefix("rc ").and_then(|status| status.parse().ok()) else {
            eprintln!("{}", last_words(&self.folder.0));
            return Ok(End::Lost);
        };
        Ok(End::Status(status))
    }
}

/// Starts virtiofsd on the whole file system, seen read-only; its socket lies in `folder`.
fn share(folder: &Path) -> Result<Ended> {
    let program = VIRTIOFSD.into_iter().find(|path| Path::new(path).is_file());
    let program = program.context("there is no virtiofsd")?;
    let root = Root::find("sharing the file system with a guest")?;
    let socket = folder.join("files");
    // In a mount namespace of its own, where the root is read-only whatever the guest asks for, and
    // virtiofsd has a /run to put a lock into.
    let script = "mount -t tmpfs tmpfs /run && mount -o remount,bind,ro / && exec \"$@\"";
    let mut command = root.command("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh", program]);
    command.arg(format!("--socket-path={}", socket.display()));
    command.args(["-o", "source=/", "-o", "cache=always", "-o", "sandbox=chroot"]);
    if !is_root() {
        command.arg(format!("--socket-group={}", output(Command::new("id").arg("-gn"))?));
    }
    let log = fs::File::create(folder.join("virtiofsd.log"))?;
    let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
    let mut child = Ended(child.context("cannot run virtiofsd")?);
    let started = Instant::now();
    while !socket.exists() {
        if child.0.try_wait()?.is_some() || started.elapsed() > Duration::from_secs(20) {
            let log = fs::read_to_string(folder.join("virtiofsd.log")).unwrap_or_default();
            bail!("virtiofsd does not serve: {}", log.trim());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(child)
}

fn qemu(kernel: &Kernel, folder: &Path, machine: Machine<'_>) -> Command {
    // A guest ends with the thread that waits for it, also if that is killed.
    let mut qemu = Command::new("setpriv");
    qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    let trees: Vec<String> = machine.trees.iter().map(|tree| tree.display().to_string()).collect();
    let mut append = format!(
        "console=ttyS0 quiet panic=-1 oops=panic mitigations=off \
         lsm=lockdown,yama,apparmor,bpf remora.trees={}",
        trees.join(",")
    );
    if let Some(system) = machine.system {
        append += &format!(" remora.system={}", system.display());
    }
    let place = |name: &str| folder.join(name).display().to_string();
    // Two threads of emulation (the default from two processors on) crash guests of QEMU 7.2 when
    // code is patched that the other processor runs. KVM is never asked for.
    qemu.args(["-accel", "tcg,thread=single"]);
    match machine.clock {
        Clock::Wall => qemu.args(["-smp", "2"]),
        Clock::Instructions => qemu.args([
            "-smp",
            "1",
            "-icount",
            "shift=0,sleep=off",
            "-rtc",
            "base=2026-01-01,clock=vm",
            "-seed",
            "1",
        ]),
    };
    qemu.args(["-M", "q35,memory-backend=mem", "-cpu", "max,la57=off", "-m", "2G"]);
    qemu.args(["-object", "memory-backend-memfd,id=mem,size=2G,share=on"]);
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    qemu.arg("-kernel").arg(&kernel.image).args(["-initrd", &place("initramfs")]);
    qemu.args(["-append", &append, "-serial", &format!("file:{}", place("console"))]);
    qemu.args(["-chardev", &format!("socket,id=files,path={}", place("files"))]);
    qemu.args(["-device", "vhost-user-fs-pci,chardev=files,tag=host,queue-size=1024"]);
    qemu.args(["-device", "virtio-serial-pci"]);
    for (name, nr) in [("output", 1), ("control", 2)] {
        qemu.args(["-chardev", &format!("socket,id={name},path={}", place(name))]);
        qemu.args(["-device", &format!("virtserialport,chardev={name},nr={nr}")]);
    }
    qemu
}

/// The lines that QEMU writes to `socket`, as they come.
fn lines(socket: &Path) -> Result<mpsc::Receiver<String>> {
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let Ok((stream, _)) = listener.accept() else { return };
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// What the guest's kernel and QEMU said last.
fn last_words(folder: &Path) -> String {
    let mut words = String::new();
    for name in ["qemu.log", "console"] {
        let mut bytes = Vec::new();
        if let Ok(mut file) = fs::File::open(folder.join(name)) {
            // Whatever can be read of it.
            let _ = file.read_to_end(&mut bytes);
        }
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(40)..] {
            words += &format!("{name}: {line}\n");
        }
    }
    words
}

/// A process that is ended when dropped.
struct Ended(Child);

impl Ended {
    fn end(&mut self) {
        // Fails only where it has ended, or is root's and ends with its peer.
        let _ = self.0.kill();
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.end();
        let _ = self.0.wait();
    }
}

/// A folder for sockets and logs; in shared memory, for the rest of the file system is read-only to
/// virtiofsd.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        for at in 0..100 {
            let path = PathBuf::from(format!("/dev/shm/remora-vm-{}-{at}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).context(format!("cannot create {}", path.display()));
                }
            }
        }
        bail!("/dev/shm is full of folders of earlier guests")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left behind at worst.
        let _ = fs::remove_dir_all(&self.0);
    }
}
