//! A collector that misbehaves by script: OTLP/HTTP in protobuf over plain sockets, a thread per
//! connection. When the script is over it accepts everything.

use std::{
    collections::VecDeque,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
    },
    common::v1::any_value::Value,
};
use prost::Message;

use crate::address;

/// What to do with a request for spans. Metrics are always accepted.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A status and further fields, each ended by CRLF.
    Status(u16, String),
    /// Accepted but for so many.
    Partly(u64),
    /// None, until the client goes.
    Hang,
    /// A byte now and then, which would be an answer in the end: a head, or only its content.
    Drip { head: bool },
}

/// A request for spans.
#[derive(Clone, Debug)]
pub struct Request {
    /// `url.path` of its spans.
    pub paths: Vec<String>,
    pub at: Instant,
    /// The answer said that they were kept, all or some.
    pub accepted: bool,
}

#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    requests: Mutex<Vec<Request>>,
}

pub struct Scripted {
    script: Arc<Script>,
    address: SocketAddr,
}

impl Scripted {
    #[must_use]
    pub fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let (listener, address) = address::listener();
        Self::serve(listener, address, answers)
    }

    /// At an address where nobody listened until now.
    ///
    /// # Panics
    /// If somebody does.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self::serve(TcpListener::bind(address).expect("an address of its own"), address, [])
    }

    fn serve(
        listener: TcpListener,
        address: SocketAddr,
        answers: impl IntoIterator<Item = Answer>,
    ) -> Self {
        let answers = Mutex::new(answers.into_iter().collect());
        let script = Arc::new(Script { answers, ..Script::default() });
        let shared = Arc::clone(&script);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let script = Arc::clone(&shared);
                // The agent may go at any time.
                thread::spawn(move || _ = script.converse(&stream));
            }
        });
        Self { script, address }
    }

    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests for spans so far.
    ///
    /// # Panics
    /// If a thread of it did.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.script.requests.lock().expect("nobody panics").clone()
    }

    /// Paths of all spans that were accepted, in the order in which they came.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let accepted = self.requests().into_iter().filter(|request| request.accepted);
        accepted.flat_map(|request| request.paths).collect()
    }
}

impl Script {
    fn converse(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        loop {
            let (mut line, mut length, mut traces) = (String::new(), 0, None);
            loop {
                line.clear();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                traces.get_or_insert_with(|| line.contains("/v1/traces"));
                let Some((name, value)) = line.trim_end().split_once(':') else {
                    if line.trim_end().is_empty() {
                        break;
                    }
                    continue;
                };
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().map_err(io::Error::other)?;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            self.answer(stream, traces == Some(true), &body)?;
        }
    }

    fn answer(&self, mut stream: &TcpStream, traces: bool, body: &[u8]) -> io::Result<()> {
        if !traces {
            return stream.write_all(head(200, "", 0).as_bytes());
        }
        let answer = self.answers.lock().expect("nobody panics").pop_front();
        let request = Request {
            paths: paths(body),
            at: Instant::now(),
            accepted: matches!(
                answer,
                None | Some(Answer::Partly(_) | Answer::Drip { head: false })
            ),
        };
        self.requests.lock().expect("nobody panics").push(request);
        match answer {
            None => stream.write_all(head(200, "", 0).as_bytes()),
            Some(Answer::Status(status, fields)) => {
                stream.write_all(head(status, &fields, 0).as_bytes())
            }
            Some(Answer::Partly(rejected)) => {
                let partly = ExportTracePartialSuccess {
                    rejected_spans: rejected.cast_signed(),
                    error_message: "too old".into(),
                };
                let body = ExportTraceServiceResponse { partial_success: Some(partly) };
                let body = body.encode_to_vec();
                stream.write_all(head(200, "", body.len()).as_bytes())?;
                stream.write_all(&body)
            }
            Some(Answer::Hang) => stream.read(&mut [0]).map(|_| ()),
            Some(Answer::Drip { head: drip_head }) => {
                let mut text = head(200, "", 1000);
                if !drip_head {
                    stream.write_all(text.as_bytes())?;
                    text.clear();
                }
                let bytes = text.bytes().chain(std::iter::repeat_n(0, 1000));
                for byte in bytes {
                    stream.write_all(&[byte])?;
                    thread::sleep(Duration::from_millis(100));
                }
                Ok(())
            }
        }
    }
}

fn head(status: u16, fields: &str, length: usize) -> String {
    let kind = "content-type: application/x-protobuf\r\n";
    format!("HTTP/1.1 {status} As told\r\n{kind}content-length: {length}\r\n{fields}\r\n")
}

fn paths(body: &[u8]) -> Vec<String> {
    let request: ExportTraceServiceRequest = Message::decode(body).expect("what the agent writes");
    let groups = request.resource_spans.into_iter().flat_map(|group| group.scope_spans);
    let attributes = groups.flat_map(|scope| scope.spans).flat_map(|span| span.attributes);
    let paths = attributes.filter(|attribute| attribute.key == "url.path");
    paths
        .filter_map(|attribute| match attribute.value?.value? {
            Value::StringValue(path) => Some(path),
            _ => None,
        })
        .collect()
}
