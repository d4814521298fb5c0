//! The TLS source by itself: programs attached, and the part of the agent that follows processes; what was recorded of
//! which of them.

use std::{
    collections::{BTreeMap, HashSet},
    process::{Command, Stdio},
    time::Instant,
};

use remora::{
    attach::TlsSources,
    bpf::{ControlWords, Door, Options, Programs, Reader, Targets},
    decode::Record,
};
use remora_common::{
    counter::Counter,
    record::{ProcessChange, Role, Source, open_flag},
    target,
};

use crate::{
    process::{Running, patience, start_ticks},
    skip,
};

/// One connection as it was recorded.
#[derive(Debug, Default)]
pub struct Stream {
    pub tgid: u32,
    pub server: bool,
    pub joined: bool,
    pub sources: HashSet<Source>,
    /// By direction: heads, joined, and where the positions end.
    pub text: [String; 2],
    pub ends: [u64; 2],
}

/// Everything recorded.
#[derive(Debug, Default)]
pub struct Seen {
    pub streams: BTreeMap<u64, Stream>,
    pub speak_tls: Vec<u32>,
    pub ended: Vec<u32>,
}

impl Seen {
    /// The connections of a process.
    #[must_use]
    pub fn of(&self, tgid: u32) -> Vec<&Stream> {
        self.streams.values().filter(|stream| stream.tgid == tgid).collect()
    }
}

/// Attached programs, and the part of the agent that follows processes.
pub struct Lab {
    pub tls: Option<TlsSources>,
    programs: Programs,
    pub targets: Targets,
    control: ControlWords,
    reader: Reader,
    pub seen: Seen,
}

impl Lab {
    /// # Panics
    /// If the kernel refuses.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it attaches programs")]
    pub fn new() -> Self {
        let doors = vec![Door::Socket, Door::SysExitRaw];
        let options =
            Options { doors, ring_bytes: 4 << 20, max_connections: 1024, ..Options::default() };
        let mut programs = Programs::attach(&options).unwrap();
        let (targets, control, _verdicts) = programs.shared().unwrap();
        let reader = programs.reader().unwrap();
        let tls = Some(TlsSources::new(&mut programs).unwrap());
        Self { tls, programs, targets, control, reader, seen: Seen::default() }
    }

    /// # Panics
    /// If it was taken.
    pub fn tls(&mut self) -> &mut TlsSources {
        self.tls.as_mut().unwrap()
    }

    /// Captures a process and its children to come.
    ///
    /// # Panics
    /// If it is not there.
    pub fn select(&mut self, tgid: u32) {
        let flags = target::SELECTED | target::INHERIT;
        self.targets.select(tgid, start_ticks(tgid), flags).unwrap();
        self.tls().process_selected(tgid);
    }

    /// Takes what is in the ring, and does what the agent does about it.
    ///
    /// # Panics
    /// If a record is not understood, or bytes are missing before it.
    pub fn turn(&mut self) {
        let seen = &mut self.seen;
        let mut changes = Vec::new();
        self.reader.drain(usize::MAX, |sample| match Record::decode(sample).unwrap() {
            Record::Data(data) => {
                let stream = seen.streams.get_mut(&data.header.conn_id).expect("opened before");
                let side = data.direction as usize;
                let (pos, end) = (data.header.pos, stream.ends[side]);
                // Emulated, the kernel leaves out runs: see `left_out`.
                assert!(pos == end || pos > end && skip::emulated(), "{end}: {:?}", data.header);
                stream.ends[side] = pos + u64::from(data.header.total_len);
                stream.text[side] += &String::from_utf8_lossy(data.head);
                stream.sources.insert(data.source);
            }
            Record::Open { role, open } => {
                let stream = seen.streams.entry(open.conn_id).or_default();
                stream.tgid = open.tgid;
                stream.server = role == Role::Server;
                stream.joined = open.flags & open_flag::JOINED != 0;
            }
            Record::Process { change, process } => changes.push((change, process.tgid)),
            Record::Close { .. } | Record::Listen(_) | Record::Stream(_) => {}
        });
        for (change, tgid) in changes {
            match change {
                ProcessChange::Exec => self.tls().process_started(tgid),
                ProcessChange::Fork => self.tls().process_selected(tgid),
                ProcessChange::Exit => {
                    self.seen.ended.push(tgid);
                    self.tls().process_gone(tgid);
                }
                ProcessChange::SpeaksTls => {
                    self.seen.speak_tls.push(tgid);
                    self.tls().speaks_tls(tgid);
                }
                ProcessChange::MovesWork => panic!("the kernel side does not say so"),
                ProcessChange::ThreadStart | ProcessChange::ThreadExit => {}
            }
        }
        self.tls().tick(Instant::now());
    }

    /// Follows processes until `done`.
    ///
    /// # Panics
    /// If that takes longer than [`patience`].
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        loop {
            self.turn();
            if done(self) {
                return;
            }
            assert!(start.elapsed() < patience(), "{what}: {:#?}", self.seen);
            self.reader.wait(&self.control);
        }
    }

    /// How many runs of programs the kernel left out, each of which may have told of a request: one that preempts itself
    /// does so while another thread is put off in the same program.
    ///
    /// # Panics
    /// If it did, on a kernel that is not emulated.
    #[must_use]
    pub fn left_out(&self) -> usize {
        let left_out = self.programs.usage().unwrap().missed();
        assert!(left_out == 0 || skip::emulated(), "{left_out} runs");
        usize::try_from(left_out).unwrap()
    }

    /// What the kernel side has counted.
    ///
    /// # Panics
    /// If that cannot be read.
    #[must_use]
    pub fn dropped(&self, reason: Counter) -> u64 {
        self.programs.counters().drops().unwrap()[reason as usize].1
    }

    /// Runs a selected program to its end, from its first instruction on; returns its pid.
    ///
    /// # Panics
    /// If it does not end.
    pub fn run(&mut self, program: &str, args: &[&str]) -> u32 {
        // The shell is selected before it becomes the program.
        let mut shell = Running::start(
            Command::new("sh")
                .args(["-c", "echo ready; read go; exec \"$0\" \"$@\"", program])
                .args(args)
                .stdin(Stdio::piped())
                .stderr(Stdio::null()),
        );
        assert_eq!(shell.line(), "ready");
        let pid = shell.pid();
        self.select(pid);
        shell.say("go");
        self.until("end of the program", |lab| lab.seen.ended.contains(&pid));
        shell.finish();
        pid
    }
}
