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
        names: &["sh", "bash", "dash", "ash", "busybox"],
        with_value: &["-o", "-O", "--rcfile", "--init-file"],
        module: &[],
        file: &[],
        inline: &["-c", "-s", "-ec", "-lc", "-xc"],
        class: false,
    },
];

/// `service.name` of a process: at most 128 bytes, no control characters, never empty.
#[must_use]
pub(super) fn service_name(exe: &Path, command_line: &[String]) -> String {
    let file = exe.file_name().unwrap_or_default().to_string_lossy();
    let bare = file.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let interpreter = INTERPRETERS.iter().find(|known| known.names.contains(&bare));
    let program = interpreter.and_then(|known| known.program(command_line.get(1..)?));
    let name = tidy(&program.unwrap_or_else(|| file.clone().into_owned()));
    if name.is_empty() { "unknown_service".into() } else { name }
}

impl Interpreter {
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
