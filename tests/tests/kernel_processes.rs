//! Which processes the kernel programs capture: those that were selected, their children, and never another one, whatever
//! number it has.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
};

use remora_common::{
    policy,
    record::{Direction, ProcessChange},
    target::{INHERIT, SELECTED},
};
use remora_tests::{
    lab::{Lab, exactly, pair, ways},
    process::{start_ticks, until},
    skip,
};

/// For each line that it reads: opens a connection, asks and reads the answer; all of it by itself, or, if the line is
/// `fork`, in a child that does no exec. Then it says who asked.
const SCRIPT: &str = r#"
ask() {
    exec 3<>/dev/tcp/127.0.0.1/$0
    printf 'GET /by-%s HTTP/1.1\r\n\r\n' $BASHPID >&3
    read -r answer <&3
    exec 3>&-
    echo $BASHPID
}
while read -r line; do
    if [ "$line" = fork ]; then (ask); else ask; fi
done
"#;

/// A process that speaks HTTP when it is told to.
struct Speaker {
    child: Child,
    said: BufReader<ChildStdout>,
    listener: TcpListener,
}

impl Speaker {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let mut child = Command::new("bash")
            .args(["-c", SCRIPT, &port])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said, listener }
    }

    /// Under the number `pid`, which is free, but not in the same tick as one that had it before.
    fn start_as(pid: u32, since: u64) -> Self {
        for _ in 0..1000 {
            next_is(pid);
            let speaker = Self::start();
            if speaker.pid() == pid && start_ticks(pid) != since {
                return speaker;
            }
            speaker.end();
        }
        panic!("number {pid} is not to be had");
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One exchange; returns who asked.
    fn speak(&mut self, order: &str) -> u32 {
        writeln!(self.child.stdin.as_mut().unwrap(), "{order}").unwrap();
        let (mut stream, _) = self.listener.accept().unwrap();
        let mut request = [0; 64];
        assert!(stream.read(&mut request).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }

    fn end(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The next process will be `pid`, unless another is started before it or has that number.
fn next_is(pid: u32) {
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
}

/// Who is seen to have asked.
fn askers(lab: &mut Lab) -> Vec<u32> {
    let seen = lab.seen();
    let heads = seen.of(Direction::Tx).map(|f| String::from_utf8_lossy(&f.head).into_owned());
    let asker = |head: String| {
        // The shell writes line by line; the second one is empty.
        let rest = head.strip_prefix("GET /by-");
        assert!(rest.is_some() || head.trim().is_empty(), "{head:?}");
        Some(rest?.split(' ').next()?.parse().unwrap())
    };
    heads.filter_map(asker).collect()
}

/// With nobody selected.
fn lab(door: remora::bpf::Door) -> Lab {
    let mut lab = Lab::new(door);
    lab.targets.deselect(std::process::id());
    lab
}

#[test]
fn a_number_that_is_given_again_is_not_captured() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = lab(door);
        let mut first = Speaker::start();
        let (pid, since) = (first.pid(), start_ticks(first.pid()));
        lab.targets.select(pid, since, SELECTED | INHERIT).unwrap();
        first.speak("ask");
        assert_eq!(askers(&mut lab), [pid], "{door:?}");
        first.end();
        assert_eq!(lab.targets.get(pid), 0, "{door:?}: the end of a process takes its byte along");

        // Who has looked at it before selects it after its end.
        lab.targets.select(pid, since, SELECTED | INHERIT).unwrap();
        let mut second = Speaker::start_as(pid, since);
        assert_eq!(lab.targets.get(pid), 0, "{door:?}: nobody selected its parent");
        second.speak("ask");
        assert!(askers(&mut lab).is_empty(), "{door:?}");

        // Or even later, when another one runs under its number.
        lab.targets.select(pid, since, SELECTED | INHERIT).unwrap();
        second.speak("ask");
        second.speak("fork");
        assert!(askers(&mut lab).is_empty(), "{door:?}");

        lab.targets.select(pid, start_ticks(pid), SELECTED).unwrap();
        second.speak("ask");
        second.speak("fork");
        assert_eq!(askers(&mut lab), [pid], "{door:?}");
        lab.targets.deselect(pid);
        second.speak("ask");
        assert!(askers(&mut lab).is_empty(), "{door:?}");
        second.end();
    }
}

#[test]
fn a_child_is_captured_from_its_first_call_whoever_had_its_number() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = lab(door);
        // One that ends unseen, for it is selected afterwards.
        let earlier = Speaker::start();
        let (number, since) = (earlier.pid(), start_ticks(earlier.pid()));
        earlier.end();
        lab.targets.select(number, since, SELECTED | INHERIT).unwrap();
        let mut parent = Speaker::start();
        let pid = parent.pid();
        lab.targets.select(pid, start_ticks(pid), SELECTED | INHERIT).unwrap();
        let got_it = (0..1000).any(|_| {
            next_is(number);
            let child = parent.speak("fork");
            assert_eq!(askers(&mut lab), [child], "{door:?}");
            child == number
        });
        assert!(got_it, "{door:?}: number {number} is not to be had");
        until("its end to be seen", || lab.targets.get(number) == 0);
        parent.end();
    }
}

/// What is kept of a process must not select it.
#[test]
fn a_process_that_speaks_tls_is_told_of_once_and_stays_deselected() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let own = std::process::id();
        let speak_tls = || {
            let (mut client, mut server) = pair();
            client.write_all(b"\x16\x03\x01\x00\x20secret hello").unwrap();
            exactly(&mut server, 17);
        };
        speak_tls();
        speak_tls();
        let told = |lab: &mut Lab| {
            let told = lab.seen().processes;
            told.into_iter().filter(|(_, change)| *change == ProcessChange::SpeaksTls).count()
        };
        assert_eq!(told(&mut lab), 1, "{door:?}");
        lab.targets.deselect(own);
        speak_tls();
        assert_eq!((told(&mut lab), lab.targets.get(own)), (0, 0), "{door:?}");
    }
}

/// The thread has read something else that is not captured before: its state is there.
#[test]
fn threads_of_a_selected_process_are_told_of_with_who_has_started_them() {
    if skip::without_root() {
        return;
    }
    let mut lab = Lab::new(ways()[0]);
    // SAFETY: no preconditions.
    let tid = || unsafe { libc::gettid() }.unsigned_abs();
    lab.seen();
    let (outer, inner) = thread::spawn(move || {
        let inner = thread::spawn(tid).join().unwrap();
        (tid(), inner)
    })
    .join()
    .unwrap();
    // It is joined a little before it has ended.
    let mut told = Vec::new();
    until("four records", || {
        told.extend(lab.seen().threads.into_iter().filter(|it| [outer, inner].contains(&it.0)));
        told.len() == 4
    });
    let expected = [
        (outer, tid(), ProcessChange::ThreadStart),
        (inner, outer, ProcessChange::ThreadStart),
        (inner, 0, ProcessChange::ThreadExit),
        (outer, 0, ProcessChange::ThreadExit),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_process_that_speaks_tls_is_told_of_by_a_thread_that_has_read_something_else() {
    if skip::without_root() {
        return;
    }
    for door in ways() {
        let mut lab = Lab::new(door);
        let (mut client, mut other) = pair();
        client.write_all(b"*1\r\n$4\r\nPING\r\n").unwrap();
        exactly(&mut other, 14);
        let opened: Vec<u64> = lab.seen().opened.iter().map(|(conn_id, ..)| *conn_id).collect();
        for conn_id in opened {
            lab.verdicts.advise(conn_id, policy::COUNT);
        }
        for _ in 0..5 {
            client.write_all(b"*1\r\n$4\r\nPING\r\n").unwrap();
            exactly(&mut other, 14);
        }
        assert!(lab.seen().data.is_empty(), "{door:?}");
        let (mut client, mut server) = pair();
        client.write_all(b"\x16\x03\x01\x00\x20secret hello").unwrap();
        exactly(&mut server, 17);
        let told = lab.seen().processes;
        let told = told.iter().filter(|(_, change)| *change == ProcessChange::SpeaksTls).count();
        assert_eq!(told, 1, "{door:?}");
    }
}
