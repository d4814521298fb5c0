//! What is recorded replays as what was seen, without privileges, without secrets, and the same each
//! time.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use remora::recording::{format::section, read::Reader};
use remora_tests::{
    agent::{Agent, Done, command},
    nginx::Nginx,
    process::until,
    recording::{replay, replays_to},
    skip, spans,
};
use serde_json::Value;
use tempfile::TempDir;

/// Two letters that nothing else in the recordings has.
const SECRET: &str = "QZQZQZQZ";

fn books(log: &str, start: &str) -> String {
    let start = format!("remora: {start}");
    log.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{log}")).into()
}

/// Everything that is in a recording, unpacked.
fn contents(recording: &Path) -> Vec<u8> {
    let mut reader = Reader::open(recording).unwrap();
    let mut all = serde_json::to_vec(reader.facts()).unwrap();
    let mut kinds = Vec::new();
    while let Some((kind, bytes)) = reader.next_raw().unwrap() {
        kinds.push(kind);
        all.extend_from_slice(bytes);
    }
    assert_eq!(kinds.last(), Some(&section::END));
    assert!(kinds.contains(&section::TARGET) && kinds.contains(&section::TICK));
    all
}

/// A conversation with a secret in every place, in pieces of `size` bytes.
fn talk(port: u16, size: usize) {
    let body = format!("{SECRET}{SECRET}");
    let requests = format!(
        "GET /?a=b&token={SECRET} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {SECRET}\r\n\
         Cookie: a={SECRET}\r\nX-Unheard-Of: {SECRET}\r\n\r\n\
         POST /nowhere;jsessionid={SECRET} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
         Proxy-Authorization: {SECRET}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in requests.as_bytes().chunks(size) {
        stream.write_all(piece).unwrap();
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answers = String::from_utf8_lossy(&answer);
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{answers}");
}

fn assert_same(done: &Done, recording: &Path) {
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (first, second) = (file("first"), file("second"));
    let output = replay(recording, &first, &[]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    replays_to(recording, &done.spans);
    for line in ["records ", "requests "] {
        assert_eq!(books(&log, line), books(&done.log, line));
    }
    assert!(replay(recording, &second, &[]).status.success());
    assert!(fs::read(&first).unwrap() == fs::read(&second).unwrap(), "byte for byte");
    let measured = |metrics: &[Value]| spans::measurements(metrics, "http.server.request.duration");
    assert_eq!(measured(&spans::metrics(first.as_ref())), measured(&done.metrics));
}

#[test]
fn a_recording_replays_to_the_same_spans_and_has_no_secrets() {
    if skip::without_root() || skip::without(&["nginx", "setpriv"]) {
        return;
    }
    let nginx = Nginx::start();
    let folder = TempDir::new().unwrap();
    let recording = folder.path().join("recording");
    let agent = Agent::on(&nginx.pids(), &["--record", recording.to_str().unwrap()]);
    for size in [1, 7, 64, 4096] {
        talk(nginx.port(), size);
    }
    let done = agent.stop();
    assert_eq!(done.spans.len(), 8, "{}", done.log);
    let contents = contents(&recording);
    assert!(memchr::memmem::find(&contents, b"QZ").is_none(), "a secret is in the recording");
    assert!(books(&done.log, "recording ").contains(" + missing 0, "), "{}", done.log);
    assert_same(&done, &recording);
}

#[test]
fn another_protocol_leaves_no_bytes_in_a_recording() {
    if skip::without_root() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut room = [0; 64];
        while stream.read(&mut room).unwrap() > 0 {
            stream.write_all(b"+OK\r\n").unwrap();
        }
    });
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; read go; for n in 1 2 3; do \
         printf 'AUTH {SECRET}\\r\\n' >&3; read answer <&3; done"
    );
    let mut bash = Command::new("bash");
    bash.args(["-c", &script]).stdin(Stdio::piped());
    let mut client = bash.spawn().unwrap();
    let folder = TempDir::new().unwrap();
    let recording = folder.path().join("recording");
    let agent = Agent::on(&[client.id()], &["--record", recording.to_str().unwrap()]);
    client.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(client.wait().unwrap().success());
    let done = agent.stop();
    server.join().unwrap();
    let mut reader = Reader::open(&recording).unwrap();
    let mut records = 0;
    while let Some((kind, bytes)) = reader.next_raw().unwrap() {
        if kind == section::RECORD {
            records += 1;
            assert!(memchr::memmem::find(bytes, b"QZ").is_none());
        }
    }
    assert!(records >= 3, "{}", done.log);
    assert_same(&done, &recording);
}

#[test]
fn a_disk_that_is_full_ends_the_recording_and_nothing_else() {
    if skip::without_root() || skip::without(&["nginx", "mount", "unshare"]) {
        return;
    }
    let nginx = Nginx::start();
    let folder = TempDir::new().unwrap();
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let tmpfs = ["-t", "tmpfs", "-o", "size=64k", "tmpfs"];
    let mounted = Command::new("mount").args(tmpfs).arg(&disk).status().unwrap();
    if !mounted.success() {
        println!("skipped: nothing can be mounted here");
        return;
    }
    let recording = disk.join("recording");
    let fill = vec![0x55; 60 << 10];
    let agent = Agent::on(&nginx.pids(), &["--record", recording.to_str().unwrap()]);
    File::create(disk.join("fill")).unwrap().write_all(&fill).unwrap();
    for _ in 0..400 {
        talk(nginx.port(), 4096);
    }
    let done = agent.stop();
    let cut = fs::read(&recording).unwrap();
    let unmounted = Command::new("umount").arg(&disk).status().unwrap();
    assert!(unmounted.success());
    assert_eq!(done.spans.len(), 800, "{}", done.log);
    assert_eq!(done.log.matches("the recording ends here").count(), 1, "{}", done.log);
    let line = books(&done.log, "recording ");
    assert!(line.ends_with("not whole") && !line.contains("missing 0,"), "{line}");
    let rest = folder.path().join("rest");
    fs::write(&rest, cut).unwrap();
    let output = replay(&rest, folder.path().join("spans").to_str().unwrap(), &[]);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && log.contains("the recording has no end"), "{log}");
}

#[test]
fn a_killed_agent_leaves_what_it_wrote() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let nginx = Nginx::start();
    let folder = TempDir::new().unwrap();
    let recording = folder.path().join("recording");
    let agent = Agent::on(&nginx.pids(), &["--record", recording.to_str().unwrap()]);
    let len = || fs::metadata(&recording).map_or(0, |file| file.len());
    let begin = len();
    talk(nginx.port(), 4096);
    let written = || len() > begin;
    until("the recording is written", written);
    agent.kill();
    let bytes = fs::read(&recording).unwrap();
    let cut = folder.path().join("cut");
    fs::write(&cut, &bytes[..bytes.len() - 5]).unwrap();
    for (file, said) in [(&recording, "the recording has no end"), (&cut, "cut at offset ")] {
        let output = replay(file, folder.path().join("spans").to_str().unwrap(), &[]);
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && log.contains(said), "{log}");
    }
}

#[test]
fn what_is_no_recording_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "{\"resourceSpans\":[]}\n").unwrap();
    let output = command().arg("replay").arg(&file).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("not a recording: found `{"), "{log}");
    let output = command().args(["replay", "--record", "x"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
