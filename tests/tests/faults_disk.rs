//! Outputs that do not take what they are given: a disk that is full, a pipe that nobody reads.

use std::{
    fs::{self, File, OpenOptions},
    io::Read as _,
    ops::Range,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use remora_tests::{
    agent::{Agent, Done},
    client::Connection,
    config_file::ConfigFile,
    nginx::Nginx,
    process::{output, patient, until},
    scripted::Scripted,
    skip, spans,
};
use tempfile::TempDir;

const MEMORY: u64 = 64 << 20;

fn ask(port: u16, numbers: Range<usize>) {
    let mut connection = Connection::open(port).unwrap();
    for number in numbers {
        let target = format!("/small/{number}");
        assert_eq!(connection.get(&target, "").unwrap().status, 200);
    }
}

#[test]
fn full_disk_is_said_once_and_counted_and_what_follows_is_written_when_there_is_room() {
    if skip::without_root() || skip::without(&["nginx", "unshare", "mount"]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let at = folder.path().display().to_string();
    let nginx = Nginx::start();
    let pids = pids(&nginx);
    // A small disk that only the agent sees, nearly full.
    let script = format!(
        "mount -t tmpfs -o size=1m none {at} && head -c 900k /dev/zero >{at}/filler && exec \"$@\""
    );
    let wrapper = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    let config = ConfigFile::new("output: {batch: {delay: 50ms}}\n");
    let file = format!("{at}/spans");
    let mut arguments = vec!["run", "--pid", &pids, "--otlp-file", &file];
    arguments.extend(config.flags());
    let agent = Agent::bare_under(&wrapper, &arguments);
    let there = Path::new("/proc").join(agent.pid().to_string()).join("root");
    let inside = |path: &str| there.join(path.trim_start_matches('/'));
    // Outlives the disk.
    let mut written = File::open(inside(&file)).unwrap();
    let mut asked = 0;
    let mut some = || {
        ask(nginx.port(), asked..asked + 20);
        asked += 20;
    };
    until("the disk to be full", || {
        some();
        agent.log().contains("cannot write")
    });
    (0..10).for_each(|_| some());
    fs::remove_file(inside(&format!("{at}/filler"))).unwrap();
    until("room", || {
        some();
        agent.log().contains("writing works again")
    });
    some();
    drop(nginx);
    let done = agent.stop();
    let books = done.books();
    let mut text = String::new();
    written.read_to_string(&mut text).unwrap();
    let came = spans::parse(&text).len() as u64;
    let lane = books.traces_to("file");
    let asked = asked as u64;
    assert_eq!(done.requests(), [asked, asked, 0, 0], "{}", done.log);
    assert_eq!((lane.exported, lane.dropped("write_failed")), (came, asked - came), "{}", done.log);
    assert!(came > 0 && came < asked, "{came} of {asked}");
    // A short line may find room where a long one found none: then that is over, and begins again.
    let [begun, over] =
        ["cannot write", "writing works again"].map(|said| done.log.matches(said).count());
    assert!(begun == over && (1..=3).contains(&begun), "{}", done.log);
    // The newest are there.
    let last = format!("/small/{}", asked - 1);
    assert!(text.contains(&format!("\"{last}\"")), "{}", done.log);
    assert!(done.peak < MEMORY, "{} bytes", done.peak);
    println!("{} of {asked} spans not written; {} MB", asked - came, done.peak >> 20);
}

/// Takes 64 KiB and then nothing, for ever: somebody has it open and does not read.
struct StuffedPipe {
    path: String,
    _reader: File,
    _folder: TempDir,
}

impl StuffedPipe {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("pipe");
        output(Command::new("mkfifo").arg(&path));
        let reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        Self { path: path.to_str().unwrap().to_owned(), _reader: reader, _folder: folder }
    }
}

/// Requests whose spans a collector gets, though another output takes nothing.
fn seen_elsewhere(requests: usize, nginx: &Nginx, collector: &Scripted) {
    ask(nginx.port(), 0..requests);
    until("the spans elsewhere", || collector.paths().len() == requests);
}

/// What the agent said at its end, and how long that took: nothing of these requests was lost to the
/// collector.
fn ended(requests: usize, nginx: Nginx, agent: Agent) -> (Done, Duration) {
    drop(nginx);
    let start = Instant::now();
    let done = agent.stop();
    let took = start.elapsed();
    let all = requests as u64;
    assert_eq!(done.requests(), [all, all, 0, 0], "{}", done.log);
    assert_eq!(done.books().traces_to("otlp").exported, all, "{}", done.log);
    assert!(took < patient(Duration::from_secs(9)), "{took:?}");
    assert!(done.peak < MEMORY, "{} bytes", done.peak);
    (done, took)
}

fn pids(nginx: &Nginx) -> String {
    nginx.pids().iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

#[test]
fn pipe_that_nobody_reads_holds_up_neither_other_destinations_nor_the_end() {
    if skip::without_root() || skip::without(&["nginx", "mkfifo"]) {
        return;
    }
    let pipe = StuffedPipe::new();
    let nginx = Nginx::start();
    let collector = Scripted::start([]);
    let config = ConfigFile::new(&format!(
        "limits: {{queue: 1MiB}}\noutput:\n  batch: {{delay: 50ms}}\n  otlp_file: {}\n  otlp:\n    \
         endpoint: {}\n    protocol: http/protobuf\n",
        pipe.path,
        collector.endpoint()
    ));
    let pids = pids(&nginx);
    let agent = Agent::bare(&[&["run", "--pid", &pids][..], &config.flags()].concat());
    const REQUESTS: usize = 1500;
    seen_elsewhere(REQUESTS, &nginx, &collector);
    assert!(agent.log().contains("export queue is full"), "{}", agent.log());
    let (done, took) = ended(REQUESTS, nginx, agent);
    let books = done.books();
    let all = REQUESTS as u64;
    let lane = books.traces_to("file");
    let dropped = lane.dropped("queue_full") + lane.dropped("shutdown");
    assert!(lane.dropped("queue_full") > 0 && lane.exported + dropped == all, "{}", done.log);
    println!("ended after {took:?}; {dropped} of {all} not written; {} MB", done.peak >> 20);
}

#[test]
fn terminal_that_takes_nothing_holds_up_neither_capture_nor_the_end() {
    if skip::without_root() || skip::without(&["nginx", "mkfifo"]) {
        return;
    }
    let pipe = StuffedPipe::new();
    let nginx = Nginx::start();
    let collector = Scripted::start([]);
    let config = ConfigFile::new(&format!(
        "output:\n  batch: {{delay: 50ms}}\n  print: spans\n  otlp:\n    endpoint: {}\n    \
         protocol: http/protobuf\n",
        collector.endpoint()
    ));
    let pids = pids(&nginx);
    let wrapper = ["sh", "-c", &format!("exec \"$@\" >{}", pipe.path), "sh"];
    let agent =
        Agent::bare_under(&wrapper, &[&["run", "--pid", &pids][..], &config.flags()].concat());
    const REQUESTS: usize = 3000;
    seen_elsewhere(REQUESTS, &nginx, &collector);
    let (done, took) = ended(REQUESTS, nginx, agent);
    assert!(done.log.contains("lines not printed"), "{}", done.log);
    println!("ended after {took:?}; {} MB", done.peak >> 20);
}
