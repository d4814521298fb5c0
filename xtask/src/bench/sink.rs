//! What an agent sends its spans to while it is measured: takes OTLP over HTTP, looks at nothing, says
//! that all is well. A process of its own, so that its time is nobody else's.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
};

use anyhow::Result;

use super::program::Program;

/// The process; says its port first.
pub(crate) fn run() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    for stream in listener.incoming() {
        let stream = stream?;
        // An agent may go at any time.
        thread::spawn(move || serve(&stream));
    }
    Ok(())
}

fn serve(mut stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut content = Vec::new();
    loop {
        let (mut length, mut json) = (0, false);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            json |= lower.starts_with("content-type:") && lower.contains("json");
        }
        content.resize(length, 0);
        reader.read_exact(&mut content)?;
        // No bytes are a whole message of protobuf.
        let (kind, answer) = if json { ("json", "{}") } else { ("x-protobuf", "") };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/{kind}\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        stream.write_all(format!("{head}{answer}").as_bytes())?;
    }
}

/// One that runs.
pub(crate) struct Sink {
    _process: Program,
    pub(crate) endpoint: String,
}

impl Sink {
    pub(crate) fn start() -> Result<Self> {
        let own = crate::shell::own_program()?;
        let mut command = Command::new(own);
        let mut process =
            Program::start(command.args(["bench", "--as", "sink"]).stdout(Stdio::piped()))?;
        let port = process.first_line()?;
        Ok(Self { _process: process, endpoint: format!("http://127.0.0.1:{port}") })
    }

    /// The flags with which an agent sends to it.
    pub(crate) fn flags(&self, protocol: &'static str) -> [&str; 4] {
        ["--otlp-endpoint", &self.endpoint, "--otlp-protocol", protocol]
    }
}
