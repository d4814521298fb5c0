//! What runs in a guest, and what came of it? Test programs are built here, and run there as root from
//! the shared file system, one after the other.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::shell::{self, WORKSPACE, cargo, line, workspace};

/// How much longer than natively tests wait for something: a python starts ten times as slowly.
const PATIENCE: u32 = 20;

/// What Cargo has built.
#[derive(Debug, Default)]
pub(crate) struct Built {
    /// The agent.
    pub(crate) agent: PathBuf,
    /// The test programs of `tests/`, by name.
    pub(crate) tests: BTreeMap<String, PathBuf>,
}

/// Builds what a guest may run, of the packages that `cargo xtask test` names: so neither builds
/// anything twice.
pub(crate) fn build() -> Result<Built> {
    let mut command = cargo();
    command.arg("build").args(WORKSPACE).args(["--bins", "--test", "*"]);
    command.arg("--message-format=json-render-diagnostics");
    eprintln!("$ {}", line(&command));
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("`{}` failed: {}", line(&command), output.status);
    }
    let mut built = Built::default();
    let mut prepare = None;
    for message in String::from_utf8_lossy(&output.stdout).lines() {
        let Some(executable) = string(message, "executable") else { continue };
        let source = string(message, "src_path").unwrap_or_default();
        let name = Path::new(&source).file_stem().unwrap_or_default().to_string_lossy();
        if Path::new(&source).parent() == Some(&workspace().join("tests/tests")) {
            built.tests.insert(name.into_owned(), executable.into());
        } else if executable.ends_with("/remora") {
            built.agent = executable.into();
        } else if executable.ends_with("/prepare") {
            prepare = Some(executable);
        }
    }
    if !built.agent.is_file() {
        bail!("cargo has built no agent");
    }
    // What the tests build when they need it is built out here, once.
    shell::run(&mut Command::new(prepare.context("cargo has built no target programs")?))?;
    Ok(built)
}

/// The string under `key` of one of Cargo's messages. Cargo writes paths without escapes, unless they
/// have quotes or backslashes in them.
fn string(message: &str, key: &str) -> Option<String> {
    let (_, rest) = message.split_once(&format!("\"{key}\":\""))?;
    Some(rest.split_once('"')?.0.to_owned())
}

/// A script that runs these test programs, `arguments` handed to each.
pub(crate) fn tests(built: &Built, names: &[String], arguments: &[String]) -> Result<String> {
    let mut script = environment(&built.agent);
    script += "status=0\n";
    for name in names {
        let program = built.tests.get(name).with_context(|| {
            let known: Vec<&str> = built.tests.keys().map(String::as_str).collect();
            format!("there is no test program {name}, only {}", known.join(", "))
        })?;
        let program = quoted(&program.to_string_lossy());
        let arguments: Vec<String> = arguments.iter().map(|argument| quoted(argument)).collect();
        writeln!(script, "echo '     Running {name}'")?;
        let arguments = arguments.join(" ");
        writeln!(script, "{program} --show-output --test-threads 1 {arguments} || status=101")?;
    }
    script += "exit $status\n";
    Ok(script)
}

/// A script that runs one line of shell.
pub(crate) fn command(built: &Built, line: &str) -> String {
    format!("{}{line}\n", environment(&built.agent))
}

/// The environment of a test that Cargo starts, with more patience.
fn environment(agent: &Path) -> String {
    let folder = workspace().join("tests");
    let home = env::var("HOME").unwrap_or_else(|_| "/root".into());
    // The system's programs first: where a version manager puts scripts in front of them, each start
    // would fork dozens of times, at 40 times the price.
    let path = format!(
        "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin:{}",
        env::var("PATH").unwrap_or_default()
    );
    let mut script = format!("cd {}\n", quoted(&folder.to_string_lossy()));
    let variables = [
        ("PATH", path),
        ("HOME", home),
        ("CARGO_MANIFEST_DIR", folder.to_string_lossy().into_owned()),
        ("REMORA_BIN", agent.to_string_lossy().into_owned()),
        ("REMORA_TEST_PATIENCE", PATIENCE.to_string()),
        ("REMORA_TEST_GUEST", "1".to_owned()),
        ("RUST_BACKTRACE", "1".to_owned()),
    ];
    for (name, value) in variables {
        script += &format!("export {name}={}\n", quoted(&value));
    }
    script
}

/// A word of shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Folders that the guest must see even where it covers what lies above them.
pub(crate) fn trees(built: &Built) -> Result<Vec<PathBuf>> {
    let mut trees = vec![workspace()];
    trees.extend(built.agent.parent().map(Path::to_owned));
    if let Ok(sysroot) = shell::output(Command::new("rustc").args(["--print", "sysroot"])) {
        trees.push(sysroot.into());
    }
    if trees.iter().any(|tree| tree.to_string_lossy().contains([',', ' '])) {
        bail!("{} has a comma or a space in it", workspace().display());
    }
    Ok(trees)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_paths_from_cargos_messages() {
        let message = r#"{"reason":"compiler-artifact","target":{"src_path":"/w/tests/tests/a.rs"},"executable":"/w/target/debug/deps/a-1"}"#;
        assert_eq!(string(message, "executable").as_deref(), Some("/w/target/debug/deps/a-1"));
        assert_eq!(string(message, "src_path").as_deref(), Some("/w/tests/tests/a.rs"));
        assert_eq!(string(r#"{"executable":null}"#, "executable"), None);
    }

    #[test]
    fn quotes_words_for_the_shell() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
