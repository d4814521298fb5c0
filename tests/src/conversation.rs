//! A server and a client that carry out a plan while the agent watches both, and what each of the three
//! says about it.

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    agent::{Agent, Done},
    curl,
    nginx::Nginx,
    oracle::{self, Said, agree},
    plan::{self, Request},
    process::{Running, until},
    programs::{self, Ecosystem},
    rustls_peers::{self, Peers},
    spans::{CLIENT, SERVER, Span},
};

/// A server of the plan that logs what it does.
pub trait Server {
    fn pids(&self) -> Vec<u32>;
    fn port(&self) -> u16;
    /// The lines of its log so far.
    fn log(&self) -> Vec<String>;
}

impl Server for programs::Server {
    fn pids(&self) -> Vec<u32> {
        vec![self.pid()]
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn log(&self) -> Vec<String> {
        self.log()
    }
}

impl Server for Nginx {
    fn pids(&self) -> Vec<u32> {
        self.pids()
    }

    fn port(&self) -> u16 {
        self.port()
    }

    fn log(&self) -> Vec<String> {
        self.log()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    Curl,
    Of(Ecosystem),
    /// That of these [`rustls_peers`].
    Rustls(Peers),
}

impl Client {
    /// Programs that it needs.
    #[must_use]
    pub fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Curl => &["curl"],
            Self::Of(ecosystem) => ecosystem.needs(),
            Self::Rustls(_) => &[],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What is known when it is over.
pub struct Conversation {
    plan: Vec<Request>,
    scheme: Scheme,
    pub done: Done,
    pub server_pids: Vec<u32>,
    client: Vec<Said>,
    server: Vec<Said>,
}

impl Conversation {
    /// Lets `client` carry out the plan.
    ///
    /// # Panics
    /// If one of the three fails.
    #[must_use]
    pub fn hold(server: impl Server, client: Client, scheme: Scheme, plan: Vec<Request>) -> Self {
        let url = format!("{}://127.0.0.1:{}", scheme.as_str(), server.port());
        let folder = TempDir::new().expect("a folder");
        let (mut command, input) = match client {
            Client::Curl => (curl::command(), curl::configuration(&plan, &url, folder.path())),
            Client::Of(ecosystem) => (ecosystem.client(&url), plan::lines(&plan)),
            Client::Rustls(peers) => {
                let peers = rustls_peers::peers(peers);
                let mut command = Command::new(peers.join("client"));
                command.arg(&url);
                (command, plan::lines(&plan))
            }
        };
        let mut running = Running::start(command.stdin(Stdio::piped()));
        let is_linked = matches!(client, Client::Of(Ecosystem::Go) | Client::Rustls(..));
        if scheme == Scheme::Https && !is_linked {
            // It waits for its plan, and is looked at by the agent as it is then.
            until("the client's OpenSSL", || has_openssl(running.pid()));
        }
        let server_pids = server.pids();
        let pids = [&server_pids[..], &[running.pid()]].concat();
        let agent = Agent::on(&pids, &[]);
        running.give(&input);
        let output = running.finish();
        let client = match client {
            Client::Curl => curl::said(&output),
            Client::Of(_) | Client::Rustls(..) => output.lines().map(Said::parse).collect(),
        };
        // It logs after it has answered, or shortly before.
        until("the server's log", || server.log().len() >= plan.len());
        let said = server.log().iter().map(|line| Said::parse(line)).collect();
        // When it has ended all of its calls have returned, and were seen.
        drop(server);
        Self { plan, scheme, done: agent.stop(), server_pids, client, server: said }
    }

    /// Requests in the plan.
    #[must_use]
    pub fn planned(&self) -> u64 {
        self.plan.len() as u64
    }

    /// Checks CLIENT spans against the client's log.
    ///
    /// # Panics
    /// If they do not agree.
    pub fn client_agrees(&self, who: &str) {
        self.agrees(CLIENT, &self.client, who);
    }

    /// Checks SERVER spans against the server's log, and that each is the child of the CLIENT span of the same request.
    ///
    /// # Panics
    /// If they do not agree.
    pub fn server_agrees(&self, who: &str) {
        self.agrees(SERVER, &self.server, who);
        let of_kind = |kind| self.done.spans.iter().filter(move |span| span.kind == kind);
        let sent: BTreeMap<String, &Span> =
            of_kind(CLIENT).map(|span| (oracle::target(span), span)).collect();
        for received in of_kind(SERVER) {
            let sent = sent[&oracle::target(received)];
            let found = (received.text("remora.parent"), &received.parent, &received.trace_id);
            let expected = ("connection", &Some(sent.span_id.clone()), &sent.trace_id);
            assert_eq!(found, expected, "{who}: {received:?}\n{}", self.done.log);
        }
    }

    fn agrees(&self, kind: u64, said: &[Said], who: &str) {
        match agree(&self.plan, &self.done.spans, kind, self.scheme.as_str(), said) {
            Ok(summary) => println!("{who}: {summary}"),
            Err(wrong) => panic!("{who}: {wrong}\n{}", self.done.log),
        }
    }
}

/// Whether a process has mapped an OpenSSL, its own or the system's.
fn has_openssl(pid: u32) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the client runs");
    maps.contains("/libssl") || maps.contains("/node")
}
