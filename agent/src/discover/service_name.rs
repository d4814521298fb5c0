//! What to call a process that nobody named: its executable, or, where the executable is only an
//! interpreter, the program it runs. A pure function of the file name and the command line.
//!
//! | command | name |
//! |---|---|
//! | `/usr/sbin/nginx -g …` | `nginx` |
//! | `python3 /srv/shop/app.py` | `app` |
//! | `python3 -m http.server` | `http.server` |
//! | `python3 /srv/shop/__main__.py`, `node /srv/shop/index.js` | `shop` |
//! | `java -jar /srv/shop-1.4.2.jar` | `shop` |
//! | `java -cp … com.example.Shop` | `Shop` |
//! | `ruby bin/puma`, `sh ./run.sh` | `puma`, `run` |
//! | `python3 -c …`, `node -e …` | `python3`, `node` |
//! | `gunicorn: master [app]`, `puma 6.4 (tcp://…) [app]`, `[celeryd: …`: a title that an interpreter's program wrote over its command line | `gunicorn`, `puma`, `celery` |
//! | `busybox httpd -f` | `httpd` |

use std::path::Path;

/// Longest name, in bytes; command lines have no bound of their own.
const MAX_LEN: usize = 128;

/// How an interpreter's command line leads to its program.
struct Interpreter {
    /// Executable names, without a trailing version.
    names: &'static [&'static str],
    /// Options whose value is the next argument.
    with_value: &'static [&'static str],
    /// Options whose value is the program's name itself.
    module: &'static [&'static str],
    /// Options whose value is a program file.
    file: &'static [&'static str],
    /// Options after which the program is text on the command line.
    inline: &'static [&'static str],
    /// The first argument that is no option is a class, not a file.
    class: bool,
}

const INTERPRETERS: &[Interpreter] = &[
    Interpreter {
        names: &["python", "pypy"],
        with_value: &["-W", "-X", "-Q", "--check-hash-based-pycs"],
        module: &["-m"],
        file: &[],
        inline: &["-c", "-"],
        class: false,
    },
    Interpreter {
        names: &["node", "nodejs"],
        with_value: &[
            "-r",
            "--require",
            "--import",
            "--loader",
            "--experimental-loader",
            "-C",
            "--conditions",
            "--env-file",
            "--icu-data-dir",
            "--title",
        ],
        module: &[],
        file: &[],
        inline: &["-e", "--eval", "-p", "--print", "-pe", "-"],
        class: false,
    },
    Interpreter {
        names: &["java"],
        with_value: &[
            "-cp",
            "-classpath",
            "--class-path",
            "-p",
            "--module-path",
            "--upgrade-module-path",
            "--add-modules",
            "--add-opens",
            "--add-exports",
            "--add-reads",
            "--patch-module",
            "--enable-native-access",
            "--source",
        ],
        module: &["-m", "--module"],
        file: &["-jar"],
        inline: &[],
        class: true,
    },
    Interpreter {
        names: &["ruby", "perl"],
        with_value: &["-I", "-r", "-C", "-E"],
        module: &[],
        file: &[],
        inline: &["-e", "-"],
        class: false,
    },
    Interpreter {
        names: &["php"],
        with_value: &["-d", "-c", "-S", "-t", "-z"],
        module: &[],
        file: &["-f"],
        inline: &["-r", "-"],
        class: false,
    },
    Interpreter {
        names: &["sh", "bash", "dash", "ash"],
        with_value: &["-o", "-O", "--rcfile", "--init-file"],
        module: &[],
        file: &[],
        inline: &["-c", "-s", "-ec", "-lc", "-xc"],
        class: false,
    },
];

/// Programs that are many: the first argument says which, if they were not started by its name.
const MULTI_CALL: [&str; 2] = ["busybox", "toybox"];

/// `service.name` of a process: at most 128 bytes, no control characters, never empty. `program` is its
/// executable, by the name it was started by if that is a link to it.
#[must_use]
pub(super) fn service_name(program: &Path, command_line: &[String]) -> String {
    let file = program.file_name().unwrap_or_default().to_string_lossy();
    let split = split_title(command_line);
    let command_line = split.as_deref().unwrap_or(command_line);
    let (file, arguments) = match command_line.get(1) {
        Some(applet) if MULTI_CALL.contains(&&*file) && !applet.starts_with('-') => {
            (applet.as_str().into(), command_line.get(2..))
        }
        _ => (file, command_line.get(1..)),
    };
    let name = Interpreter::of(&file)
        .and_then(|known| titled(command_line).or_else(|| known.program(arguments?)));
    let name = tidy(&name.unwrap_or_else(|| file.clone().into_owned()));
    if name.is_empty() { "unknown_service".into() } else { name }
}

/// Whether the program of a process is what its parent said: Python starts the workers of pools so.
#[must_use]
pub(super) fn is_spawned_worker(command_line: &[String]) -> bool {
    command_line.iter().any(|argument| argument == "--multiprocessing-fork")
        || command_line.iter().any(|argument| {
            argument.starts_with("from multiprocessing.") && argument.contains("import main")
        })
}

/// Whether an executable runs programs of others, which may write a title over its command line.
#[must_use]
pub(super) fn is_interpreter(exe: &Path) -> bool {
    exe.file_name().is_some_and(|file| Interpreter::of(&file.to_string_lossy()).is_some())
}

/// The one argument of a command line that was written over as a whole; what is behind it is empty.
fn title(command_line: &[String]) -> Option<&str> {
    let (first, rest) = command_line.split_first()?;
    (!first.is_empty() && rest.iter().all(|argument| argument.trim().is_empty()))
        .then(|| first.trim())
}

/// The arguments of a command line that was written over with itself: `setproctitle` does so before it is
/// told a title.
fn split_title(command_line: &[String]) -> Option<Vec<String>> {
    let words: Vec<String> = title(command_line)?.split_whitespace().map(str::to_owned).collect();
    let program = Path::new(words.first()?).file_name()?.to_str()?;
    (words.len() > 1 && Interpreter::of(program).is_some()).then_some(words)
}

/// What a program calls itself in the title that stands instead of its command line.
fn titled(command_line: &[String]) -> Option<String> {
    let title = title(command_line)?;
    let title = title.strip_prefix('[').unwrap_or(title);
    let end = title.find(|c: char| c.is_whitespace() || ":()[]".contains(c));
    let name = &title[..end.unwrap_or(title.len())];
    let program = Path::new(name).file_name()?.to_str()?;
    match program {
        // The interpreter, with nothing to run.
        _ if name.starts_with('-') || Interpreter::of(program).is_some() => None,
        "celeryd" => Some("celery".into()),
        _ => file_program(name),
    }
}

impl Interpreter {
    /// By the name of an executable, with a version or without.
    fn of(file: &str) -> Option<&'static Self> {
        let bare = file.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        INTERPRETERS.iter().find(|known| known.names.contains(&bare))
    }

    fn program(&self, arguments: &[String]) -> Option<String> {
        let mut arguments = arguments.iter().map(String::as_str);
        loop {
            let argument = arguments.next()?;
            if argument.is_empty() || self.inline.contains(&argument) {
                return None;
            } else if self.module.contains(&argument) {
                let module = arguments.next()?; // java: module[/class]
                return Some(module.split('/').next()?.to_owned());
            } else if self.file.contains(&argument) {
                return file_program(arguments.next()?);
            } else if self.with_value.contains(&argument) {
                arguments.next();
            } else if argument == "--" {
                return file_program(arguments.next()?);
            } else if !argument.starts_with(['-', '@', '+']) {
                return if self.class && !argument.ends_with(".java") {
                    Some(argument.rsplit(['.', '/']).next()?.to_owned())
                } else {
                    file_program(argument)
                };
            }
        }
    }
}

/// A program file's name without its suffix; files that are called alike in every program give way
/// to their folder, and a version at the end of an archive's name is left out.
fn file_program(path: &str) -> Option<String> {
    const SUFFIXES: [&str; 14] = [
        ".py", ".pyc", ".pyz", ".js", ".mjs", ".cjs", ".ts", ".jar", ".war", ".java", ".rb", ".pl",
        ".php", ".sh",
    ];
    let path = Path::new(path);
    let file = path.file_name()?.to_str()?;
    let suffix =
        SUFFIXES.into_iter().find(|suffix| file.len() > suffix.len() && file.ends_with(suffix));
    let stem = &file[..file.len() - suffix.map_or(0, str::len)];
    if matches!(stem, "__main__" | "index") {
        let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        return folder.or(Some(stem)).map(str::to_owned);
    }
    let archive = matches!(suffix, Some(".jar" | ".war"));
    Some(if archive { without_version(stem) } else { stem }.to_owned())
}

/// `shop-1.4.2-SNAPSHOT` → `shop`.
fn without_version(stem: &str) -> &str {
    let version = stem
        .match_indices('-')
        .find(|(at, _)| stem[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    match version {
        Some((at, _)) if at > 0 => &stem[..at],
        _ => stem,
    }
}

fn tidy(name: &str) -> String {
    let mut tidy: String = name.chars().filter(|c| !c.is_control()).collect();
    tidy.truncate(tidy.floor_char_boundary(MAX_LEN));
    tidy
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;

    fn name(exe: &str, line: &str) -> String {
        let line: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        service_name(Path::new(exe), &line)
    }

    #[test]
    fn compiled_programs_are_called_as_their_file() {
        assert_eq!(name("/usr/sbin/nginx", "nginx: master process"), "nginx");
        assert_eq!(name("/srv/shop", ""), "shop");
        assert_eq!(name("/usr/bin/redis-server", "x"), "redis-server");
    }

    #[test]
    fn interpreters_are_called_as_what_they_run() {
        let rows = [
            ("/usr/bin/python3.11", "python3 -u -W ignore /srv/shop/app.py --port 80", "app"),
            ("/usr/bin/python3.11", "python3 -m http.server 80", "http.server"),
            ("/usr/bin/python3.11", "python3 /usr/local/bin/gunicorn app:app", "gunicorn"),
            ("/usr/bin/python3.11", "python3 /srv/shop/__main__.py", "shop"),
            ("/usr/bin/python3.11", "python3 __main__.py", "__main__"),
            ("/usr/bin/python3.11", "python3 -c code", "python3.11"),
            ("/usr/bin/python3.11", "python3", "python3.11"),
            (
                "/usr/bin/node",
                "node --require ./trace.js --max-old-space-size=1 server.mjs",
                "server",
            ),
            ("/usr/bin/node", "node /srv/shop/index.js", "shop"),
            ("/usr/bin/node", "node -e code", "node"),
            ("/opt/jdk/bin/java", "java -Xmx1g -jar /srv/shop-api-1.4.2-SNAPSHOT.jar", "shop-api"),
            ("/opt/jdk/bin/java", "java -cp a.jar:b.jar -Dx=y com.example.Shop arg", "Shop"),
            ("/opt/jdk/bin/java", "java -m shop/com.example.Main", "shop"),
            ("/opt/jdk/bin/java", "java Demo.java", "Demo"),
            ("/usr/bin/ruby3.1", "ruby -I lib bin/puma -p 80", "puma"),
            ("/usr/bin/php8.2", "php -S 127.0.0.1:80 router.php", "router"),
            ("/usr/bin/dash", "sh ./run.sh", "run"),
            ("/usr/bin/dash", "sh -c code", "dash"),
        ];
        for (exe, line, expected) in rows {
            assert_eq!(name(exe, line), expected, "{line}");
        }
    }

    #[test]
    fn a_title_names_the_program_as_its_command_line_did() {
        let rows = [
            ("/usr/bin/ruby3.1", "puma 6.4.0 (tcp://127.0.0.1:9292) [app]", "puma"),
            ("/usr/bin/ruby3.1", "puma: cluster worker 0: 12 [app]", "puma"),
            ("/usr/bin/ruby3.1", "sidekiq 7.1.0 app [0 of 5 busy]", "sidekiq"),
            ("/usr/bin/python3.11", "gunicorn: master [app:app]", "gunicorn"),
            ("/usr/bin/python3.11", "[celeryd: celery@h:MainProcess] -active-", "celery"),
            ("/usr/bin/python3.11", "[celery beat]", "celery"),
            ("/usr/bin/python3.11", "/usr/bin/python3 /usr/bin/gunicorn app:app", "gunicorn"),
            ("/usr/bin/node", "checkout", "checkout"),
            ("/usr/bin/node", "npm run start", "npm"),
            ("/usr/bin/node", "node", "node"),
            ("/usr/bin/perl", "/srv/app.pl", "app"),
            ("/usr/sbin/php-fpm8.2", "php-fpm: pool www", "php-fpm8.2"),
            ("/usr/bin/redis-server", "/usr/bin/redis-server 127.0.0.1:6379", "redis-server"),
        ];
        for (exe, title, expected) in rows {
            let line = [title.to_owned(), String::new(), String::new()];
            assert_eq!(service_name(Path::new(exe), &line), expected, "{title}");
        }
    }

    #[test]
    fn a_program_of_many_is_called_as_the_one_it_is() {
        for (exe, line, expected) in [
            ("/bin/busybox", "busybox httpd -f", "httpd"),
            ("/bin/httpd", "httpd -f", "httpd"),
            ("/bin/busybox", "busybox sh ./run.sh", "run"),
            ("/bin/sh", "sh ./run.sh", "run"),
            ("/bin/busybox", "busybox --list", "busybox"),
        ] {
            assert_eq!(name(exe, line), expected, "{line}");
        }
    }

    #[test]
    fn a_worker_that_python_spawned_is_known() {
        let line = |text: &str| text.split('|').map(str::to_owned).collect::<Vec<_>>();
        let worker = "python3|-c|from multiprocessing.spawn import spawn_main; spawn_main()|\
                      --multiprocessing-fork";
        assert!(is_spawned_worker(&line(worker)));
        let tracker = "python3|-c|from multiprocessing.resource_tracker import main;main(4)";
        assert!(is_spawned_worker(&line(tracker)));
        assert!(!is_spawned_worker(&line("python3|-c|print(1)")));
    }

    #[test]
    fn names_are_bounded_and_printable() {
        let long = format!("{}\u{7}.py", "ü".repeat(200));
        let name = service_name(Path::new("/usr/bin/python3"), &["python3".into(), long]);
        assert!(name.len() <= MAX_LEN && name.chars().all(|c| c == 'ü'), "{name}");
        assert_eq!(service_name(Path::new("/"), &[]), "unknown_service");
    }

    proptest! {
        #[test]
        fn any_command_line_gives_a_name(
            exe in "/(usr/bin/)?(python3|node|java|sh|php|shop|\\PC{0,9})",
            line in collection::vec("-{0,2}(jar|m|c|cp|W|\\PC{0,9}|/srv/[a-z-]{0,9}[0-9.]{0,3}jar)", 0..6),
        ) {
            let name = service_name(Path::new(&exe), &line);
            prop_assert!(!name.is_empty() && name.len() <= MAX_LEN);
        }
    }
}
