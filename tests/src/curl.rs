//! curl as the client of a plan: one process, its configuration on standard input.

use std::{fmt::Write as _, path::Path, process::Command};

use crate::{
    oracle::{Said, nanoseconds},
    plan::{Mode, Request},
};

/// curl, which waits for its configuration.
#[must_use]
pub fn command() -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--config", "-"]);
    curl
}

/// The configuration that makes it send the plan; content is put into `folder`.
///
/// # Panics
/// If the folder cannot be written to.
#[must_use]
pub fn configuration(plan: &[Request], url: &str, folder: &Path) -> String {
    let mut text = String::new();
    for (number, Request { method, target, size, mode, .. }) in plan.iter().enumerate() {
        if number > 0 {
            text.push_str("next\n");
        }
        let mut option = |line: &str| writeln!(text, "{line}").expect("into memory");
        // HTTP/1.1 also with servers that offer more.
        let always = ["silent", "show-error", "insecure", "http1.1", "output = /dev/null"];
        always.into_iter().for_each(&mut option);
        option(&format!("url = \"{url}{target}\""));
        match *method {
            "HEAD" => option("head"),
            method => option(&format!("request = {method}")),
        }
        if *size > 0 {
            let content = folder.join(size.to_string());
            std::fs::write(&content, vec![b'x'; *size]).expect("a file");
            option(&format!("data-binary = \"@{}\"", content.display()));
        } else if matches!(*method, "POST" | "PUT") {
            option("data = \"\"");
        }
        match mode {
            Mode::Keep => {}
            Mode::Close => option("header = \"Connection: close\""),
            Mode::Chunked => option("header = \"Transfer-Encoding: chunked\""),
        }
        option(&format!(
            "write-out = \"{method} {target} {size} %{{response_code}} %{{size_download}} \
             %{{time_connect}} %{{time_appconnect}} %{{time_total}}\\n\""
        ));
    }
    text
}

/// What curl says of a plan.
///
/// # Panics
/// If it is not what the configuration asked for.
#[must_use]
pub fn said(output: &str) -> Vec<Said> {
    output.lines().map(said_of).collect()
}

fn said_of(line: &str) -> Said {
    let words: Vec<&str> = line.split(' ').collect();
    let &[method, target, sent, status, received, connect, tls, total] = &words[..] else {
        panic!("not a line of ours: {line:?}")
    };
    let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("{line:?}"));
    // Its stopwatch runs from before the connection is made.
    let connected = nanoseconds(connect).max(nanoseconds(tls));
    Said {
        method: method.to_owned(),
        target: target.to_owned(),
        status: number(status),
        request: Some(number(sent)),
        response: Some(number(received)),
        begin: None,
        ns: nanoseconds(total).saturating_sub(connected),
        resolution_ns: 0,
    }
}
