//! Clients that give up, and servers that have given up on them: what the other side did is told, and nothing is lost.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpListener,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use remora_tests::{
    agent::Agent,
    apache::Apache,
    client::Connection,
    impatient::{self, Logging},
    process::{Running, patient},
    programs::target,
    skip,
    spans::{CLIENT, SERVER, Span},
};

fn lines(spans: &[Span], kind: u64) -> Vec<(String, &str)> {
    let of_kind = spans.iter().filter(|span| span.kind == kind);
    of_kind.map(|span| (span.line(), span.text("error.type"))).collect()
}

#[test]
fn an_answer_that_a_reset_follows_is_told_however_late_it_is_read() {
    if skip::without_root() || skip::without(&["python3"]) {
        return;
    }
    const EACH: usize = 5;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    // Reads the head alone. To close what has content to be read resets the connection.
    let server = thread::spawn(move || {
        for stream in listener.incoming().take(3 * EACH) {
            let (mut stream, mut head) = (stream.unwrap(), Vec::new());
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").unwrap();
        }
    });
    let mut client = Command::new("python3");
    client.arg(target("faults/late_reader.py")).args([&port, &EACH.to_string()]);
    let mut client = Running::start(client.stdin(Stdio::piped()));
    let agent = Agent::on(&[client.pid(), std::process::id()], &[]);
    client.give("go\n");
    let said = client.finish();
    assert_eq!(said, ["413\n".repeat(2 * EACH), "-\n".repeat(EACH)].concat());
    server.join().unwrap();
    let done = agent.stop();
    let log = &done.log;
    let expected = |[whole, bytes, never]: [(&str, &'static str); 3]| -> Vec<_> {
        let each = [("whole", whole), ("bytes", bytes), ("never", never)];
        each.into_iter()
            .flat_map(|(path, (status, error))| {
                vec![(format!("POST /{path} {status}"), error); EACH]
            })
            .collect()
    };
    let refused = ("413", "413");
    let of_client = expected([refused, refused, ("0", "connection_reset")]);
    assert_eq!(lines(&done.spans, CLIENT), of_client, "{log}");
    let of_server = expected([("413", ""); 3]);
    assert_eq!(lines(&done.spans, SERVER), of_server, "{log}");
    for span in &done.spans {
        // All of it was sent, and nothing of it read.
        let size = if span.kind == CLIENT { 5000 } else { 0 };
        assert_eq!(span.int("http.request.body.size"), Some(size), "{log}");
        let incomplete = span.attributes.contains_key("remora.request.body.size.incomplete");
        assert_eq!(incomplete, span.kind == SERVER, "{log}");
    }
    assert_eq!((done.books().requests, done.books().all_lost()), (6 * EACH as u64, 0), "{log}");
}

#[test]
fn requests_that_come_after_the_keep_alive_timeout_are_no_failures() {
    if skip::without_root() || skip::without(&["apache2"]) {
        return;
    }
    const EACH: u64 = 6;
    let apache = Apache::start("200ms", 1);
    let mut client = Command::new("python3");
    client
        .arg(target("faults/after_timeout.py"))
        .args([apache.port().to_string(), EACH.to_string()]);
    let mut client = Running::start(client.stdin(Stdio::piped()));
    let agent = Agent::on(&[apache.pids(), vec![client.pid()]].concat(), &[]);
    client.give("go\n");
    assert_eq!(client.finish(), "200 -\n".repeat(EACH as usize));
    for n in 0..EACH {
        let mut connection = Connection::open(apache.port()).unwrap();
        assert_eq!(connection.get("/small", "").unwrap().status, 200);
        // Then Apache has shut down its side, and drops what it reads for two seconds.
        thread::sleep(Duration::from_millis(500));
        match n % 3 {
            0 => assert!(connection.get("/small?late", "").is_err(), "it was answered"),
            1 => assert!(connection.get("/small?late", "x: y\r\n").is_err(), "it was answered"),
            // Closes without another word.
            _ => {}
        }
    }
    thread::sleep(patient(Duration::from_millis(100)));
    let logged = apache.log();
    assert_eq!(logged, vec!["GET /small 200"; 2 * EACH as usize]);
    drop(apache);
    let done = agent.stop();
    let log = &done.log;
    let told: Vec<_> = logged.into_iter().map(|line| (line, "")).collect();
    assert_eq!(lines(&done.spans, SERVER), told, "{log}");
    assert_eq!(lines(&done.spans, CLIENT), told[..EACH as usize], "{log}");
    // Of the other client's both ends are seen.
    let late = EACH / 3 * 2 + 2 * EACH;
    assert_eq!(done.lost("after_close"), late, "{log}");
    let requests = 3 * EACH + late;
    assert_eq!((done.books().requests, done.books().all_lost()), (requests, late), "{log}");
}

/// `REMORA_TEST_REQUESTS` says how many each server is asked.
#[test]
fn access_logs_agree_when_half_of_the_clients_give_up() {
    if skip::without_root() || skip::without(&Logging::NEEDS) {
        return;
    }
    let count = std::env::var("REMORA_TEST_REQUESTS").map_or(300, |n| n.parse().unwrap());
    let servers = Logging::all();
    let pids: Vec<u32> = servers.iter().flat_map(Logging::pids).collect();
    let agent = Agent::on(&pids, &[]);
    let asked: Vec<_> =
        servers.iter().map(|server| impatient::ask(server.port(), &server.name(), count)).collect();
    // What was given up is worked on for another 20 ms.
    thread::sleep(patient(Duration::from_millis(500)));
    let logs: Vec<_> = servers.iter().map(Logging::log).collect();
    let (names, pids): (Vec<_>, Vec<_>) = servers.iter().map(|s| (s.name(), s.pids())).unzip();
    drop(servers);
    let done = agent.stop();
    assert_eq!(done.left_out(), 0);
    for (((name, pids), answered), log) in names.iter().zip(pids).zip(asked).zip(logs) {
        let mut spans: BTreeMap<String, &Span> = BTreeMap::new();
        let own = |span: &&Span| {
            let ours = pids.iter().any(|&pid| i64::from(pid) == span.pid);
            // Two of them hand on to one that is asked itself, too.
            ours && span.kind == SERVER && span.text("url.query").starts_with(&format!("n={name}-"))
        };
        for span in done.spans.iter().filter(own) {
            let target = format!("{}?{}", span.text("url.path"), span.text("url.query"));
            let twice = spans.insert(target, span);
            assert!(twice.is_none(), "{name}: {twice:?} and {span:?}");
        }
        for (target, status) in
            log.iter().filter(|(target, _)| target.contains(&format!("n={name}-")))
        {
            let span = spans
                .get(target)
                .unwrap_or_else(|| panic!("{name}: no span of {target}\n{}", done.log));
            // What was logged is not what was written where the client was gone by then.
            let written = span.int("http.response.status_code") == Some(*status);
            assert!(written || !span.text("error.type").is_empty(), "{status} {span:?}");
        }
        for target in &answered {
            let span = spans
                .get(target)
                .unwrap_or_else(|| panic!("{name}: no span of {target}\n{}", done.log));
            assert_eq!(
                (span.int("http.response.status_code"), span.text("error.type")),
                (Some(200), ""),
                "{span:?}"
            );
        }
        println!("{name}: {count} asked, {} logged, {} spans", log.len(), spans.len());
        assert!(spans.len() <= count && answered.len() == count.div_ceil(2));
    }
    assert_eq!(done.books().all_lost(), 0, "{}", done.log);
}
