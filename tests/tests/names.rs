//! What services are called that nobody named: as the program, whether it was started before the agent or
//! after it, whatever it writes over its command line.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
};

use remora_tests::{
    agent::{Agent, Done},
    client::Connection,
    nginx::Nginx,
    process::{Running, children, free_port, listening, until},
    skip,
    spans::SERVER,
};
use tempfile::TempDir;

const PYTHON: &str = "/usr/bin/python3";

/// A server of HTTP, and what it is called.
struct Server {
    needs: &'static str,
    command: fn(port: u16, folder: &Path) -> Vec<String>,
    name: &'static str,
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Debian's programs, with Debian's Python: others do not have its modules.
fn python(program: &str, arguments: &str) -> Vec<String> {
    words(&format!("{PYTHON} /usr/bin/{program} {arguments}"))
}

const SERVERS: &[Server] = &[
    Server {
        needs: "puma",
        command: |port, folder| {
            words(&format!(
                "ruby /usr/bin/puma -b tcp://127.0.0.1:{port} {}/config.ru",
                folder.display()
            ))
        },
        name: "puma",
    },
    Server {
        needs: "gunicorn",
        command: |port, folder| {
            python("gunicorn", &format!("-b 127.0.0.1:{port} --chdir {} app:app", folder.display()))
        },
        name: "gunicorn",
    },
    Server {
        needs: "gunicorn",
        command: |port, folder| {
            // As where setproctitle is not installed.
            let code = "import sys; sys.modules['setproctitle'] = None; sys.argv[0] = 'gunicorn'; \
                        from gunicorn.app.wsgiapp import run; run()";
            let script = folder.join("gunicorn");
            fs::write(&script, code).expect("a file");
            let arguments = format!("-b 127.0.0.1:{port} --chdir {} app:app", folder.display());
            [&[PYTHON.to_owned(), script.display().to_string()][..], &words(&arguments)].concat()
        },
        name: "gunicorn",
    },
    Server {
        needs: "uvicorn",
        command: |port, folder| {
            let folder = folder.display();
            python("uvicorn", &format!("--port {port} --app-dir {folder} app:asgi --workers 2"))
        },
        name: "uvicorn",
    },
    Server {
        needs: "node",
        command: |port, folder| words(&format!("node {}/shop.js {port}", folder.display())),
        name: "checkout",
    },
    Server {
        needs: "busybox",
        command: |port, folder| {
            let link = folder.join("httpd");
            if !link.exists() {
                std::os::unix::fs::symlink("/usr/bin/busybox", &link).expect("a link");
            }
            words(&format!("{} -f -p 127.0.0.1:{port} -h {}", link.display(), folder.display()))
        },
        name: "httpd",
    },
];

fn fill(folder: &Path) {
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("a file");
    write("index.html", "hello");
    write("config.ru", "run ->(env) { [200, {'content-type' => 'text/plain'}, ['hello']] }\n");
    write(
        "app.py",
        "def app(environ, start):\n    start('200 OK', [('Content-Length', '5')])\n    return [b'hello']\n\
         async def asgi(scope, receive, send):\n    if scope['type'] != 'http':\n        return\n    \
         await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n    \
         await send({'type': 'http.response.body', 'body': b'hello'})\n",
    );
    write(
        "shop.js",
        "process.title = 'checkout';\nrequire('http').createServer((_, response) => response.end('hello'))\
         .listen(+process.argv[2], '127.0.0.1');\n",
    );
}

/// All processes below `pid`, and itself.
fn family(pid: u32) -> Vec<u32> {
    let below = children(pid).unwrap_or_default().into_iter().flat_map(family);
    std::iter::once(pid).chain(below).collect()
}

fn ask(port: u16) {
    for _ in 0..5 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        let request = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        stream.write_all(request).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.contains(" 200 "), "{answer}");
    }
}

fn end(pids: &[u32]) {
    for pid in pids {
        // SAFETY: no memory is involved; the processes were started here.
        unsafe { libc::kill(i32::try_from(*pid).expect("a pid"), libc::SIGKILL) };
    }
}

fn assert_named(done: &Done, name: &str, how: &str) {
    let spans: Vec<_> = done.spans.iter().filter(|span| span.kind == SERVER).collect();
    assert!(!spans.is_empty(), "{name} {how}: {}", done.log);
    for span in spans {
        assert_eq!(span.service, name, "{how}: {}", done.log);
    }
}

#[test]
fn a_program_has_its_name_whether_it_came_before_the_agent_or_after() {
    if skip::without_root() {
        return;
    }
    for Server { needs, command, name } in SERVERS {
        if skip::without(&[needs]) {
            continue;
        }
        let folder = TempDir::new().unwrap();
        fill(folder.path());
        let port = free_port();
        let words = command(port, folder.path());
        let mut before = Command::new(&words[0]);
        before.args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Running::start_unread(&mut before);
        listening(port);
        let pids = family(server.pid());
        let agent = Agent::on(&pids[..1], &[]);
        ask(port);
        end(&pids);
        assert_named(&agent.stop(), name, "before");
        drop(server);

        let port = free_port();
        let words = command(port, folder.path());
        let agent = Agent::start("exec", &[&["--".to_owned()], &*words].concat());
        listening(port);
        ask(port);
        // It is looked at with its first connection, which a process that is gone by then cannot be.
        until("a span", || {
            fs::read_to_string(agent.spans()).is_ok_and(|text| text.contains("spanId"))
        });
        end(&family(agent.pid())[1..]);
        assert_named(&agent.ended_anyhow(), name, "after");
    }
}

/// Of which the agent's log says that it selected them: service names.
fn selected(agent: &Agent) -> Vec<String> {
    let log = agent.log();
    let lines = log.lines().filter(|line| line.contains("process selected"));
    let name = |line: &str| {
        let rest = line.split("service=").nth(1)?;
        Some(rest.split_whitespace().next()?.trim_matches('"').to_owned())
    };
    lines.filter_map(name).collect()
}

/// The one that is installed: its name has PHP's version.
fn php_fpm() -> Option<String> {
    let mut names = fs::read_dir("/usr/sbin").ok()?.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.starts_with("php-fpm").then_some(name)
    });
    names.next()
}

#[test]
fn programs_without_http_have_their_names_too() {
    if skip::without_root() {
        return;
    }
    let fpm = php_fpm().unwrap_or_else(|| "php-fpm".into());
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let pool = format!(
        "[global]\nerror_log = {}\ndaemonize = no\n[www]\nlisten = {}\nuser = nobody\npm = static\n\
         pm.max_children = 2\n",
        path("log"),
        path("socket")
    );
    fs::write(path("fpm.conf"), pool).unwrap();
    let tasks = "from celery import Celery\napp = Celery('tasks', broker='memory://')\n";
    fs::write(path("tasks.py"), tasks).unwrap();
    let port = free_port();
    let celery = format!("--workdir {} -A tasks worker -c 1 -P prefork", folder.path().display());
    for (words, name, ready) in [
        (words(&format!("{fpm} -R -y {}", path("fpm.conf"))), &*fpm, 2),
        (python("celery", &celery), "celery", 1),
        (
            words(&format!("redis-server --port {port} --save  --dir {}", path(""))),
            "redis-server",
            0,
        ),
    ] {
        if skip::without(&[name]) {
            continue;
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null());
        let program = Running::start_unread(&mut command);
        until(name, || {
            let line = fs::read(format!("/proc/{}/cmdline", program.pid())).unwrap_or_default();
            let has_title = ready == 0 || !line.starts_with(words[0].as_bytes());
            family(program.pid()).len() > ready && has_title
        });
        let pids = family(program.pid());
        let agent = Agent::on(&pids[..1], &[]);
        until("all of its processes", || selected(&agent).len() >= pids.len());
        let found = selected(&agent);
        assert!(found.iter().all(|found| found == name), "{name}: {found:?}");
        end(&pids);
        let _ = agent.stop();
    }
}

#[test]
fn the_pid_of_a_master_stands_for_the_workers_that_it_has() {
    if skip::without_root() || skip::without(&["nginx"]) {
        return;
    }
    let nginx = Nginx::start();
    let master = *nginx.pids().last().unwrap();
    let agent = Agent::on(&[master], &[]);
    let mut connection = Connection::open(nginx.port()).unwrap();
    for _ in 0..3 {
        assert_eq!(connection.get("/small", "").unwrap().status, 200);
    }
    drop(connection);
    drop(nginx);
    let done = agent.stop();
    assert_eq!(done.spans.len(), 3, "{}", done.log);
    assert!(done.spans.iter().all(|span| span.service == "nginx"), "{:?}", done.spans);
}

#[test]
fn attributes_that_cannot_be_read_are_told_of_once_by_process() {
    if skip::without_root() {
        return;
    }
    let mut command = Command::new("sleep");
    let program = Running::start(command.arg("60").env("OTEL_RESOURCE_ATTRIBUTES", "a=1,s3cret"));
    let agent = Agent::on(&[program.pid()], &[]);
    until("the process", || !selected(&agent).is_empty());
    let done = agent.stop();
    let about = |line: &&str| line.contains("OTEL_RESOURCE_ATTRIBUTES");
    let lines: Vec<_> = done.log.lines().filter(about).collect();
    assert_eq!(lines.len(), 1, "{}", done.log);
    assert!(lines[0].contains("a pair without `=`"), "{lines:?}");
    assert!(lines[0].contains(&format!("pid={}", program.pid())), "{lines:?}");
    assert!(!done.log.contains("s3cret"), "{}", done.log);
}
