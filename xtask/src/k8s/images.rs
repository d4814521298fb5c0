//! What runs in the cluster's pods, as images made here of what this machine has: nothing is pulled.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{
    dist,
    image::{self, Entry, Variant, architecture},
    shell::{Scratch, output, run, workspace},
};

/// What holds a pod's namespaces.
pub(super) const PAUSE: &str = "localhost/pause:1";
/// nginx, with a configuration that a pod brings.
pub(super) const NGINX: &str = "localhost/nginx:1.22";
/// A service in Go and one in Rust that answer who they are and ask the next.
pub(super) const GO: &str = "localhost/hop-go:1.0";
pub(super) const RUST: &str = "localhost/hop-rust:1.0";
/// The agent. A name of its own: no other build is meant.
pub(super) const REMORA: (&str, &str) = ("localhost/remora", "k8s");

/// Makes all of them below `folder`; returns where they are.
pub(super) fn make(folder: &Path, binary: Option<&Path>) -> Result<Vec<PathBuf>> {
    let remora = match binary {
        Some(path) => path.to_owned(),
        None => dist::static_binary()?,
    };
    let agent = folder.join("remora.tar");
    let options = image::Options {
        binary: Vec::new(),
        tag: format!("{}:{}", REMORA.0, REMORA.1),
        certificates: "/etc/ssl/certs/ca-certificates.crt".into(),
        output: Some(agent.clone()),
    };
    image::write(&options, &[remora])?;
    let scratch = Scratch::new("k8s-images")?;
    let at = |name: &str| scratch.path().join(name);
    rust(&at("pause"), "pause")?;
    rust(&at("hop"), "hop")?;
    go(&at("hop-go"))?;
    let mut paths = vec![agent];
    for (tag, program) in [(PAUSE, "pause"), (RUST, "hop"), (GO, "hop-go")] {
        let path = folder.join(format!("{program}.tar"));
        let content = fs::read(at(program))?;
        pack(
            &path,
            tag,
            vec![(program.to_owned(), content, 0o755)],
            json!([format!("/{program}")]),
        )?;
        paths.push(path);
    }
    let nginx = folder.join("nginx.tar");
    let command = json!(["/usr/sbin/nginx", "-c", "/etc/nginx/nginx.conf"]);
    pack(&nginx, NGINX, dynamic(Path::new("/usr/sbin/nginx"))?, command)?;
    paths.push(nginx);
    Ok(paths)
}

fn pack(path: &Path, tag: &str, mut files: Vec<Entry>, command: Value) -> Result<()> {
    let program = files.first().context("an image without a file")?;
    let architecture = architecture(&program.1)?;
    // Who looks up whom to run as, and where files of a moment go.
    files.push((
        "etc/passwd".into(),
        b"root:x:0:0::/:/\nnobody:x:65534:65534::/:/\n".into(),
        0o644,
    ));
    files.push(("etc/group".into(), b"root:x:0:\nnogroup:x:65534:\n".into(), 0o644));
    files.push(("tmp/.keep".into(), Vec::new(), 0o644));
    let config = json!({"Entrypoint": command, "Env": ["PATH=/usr/sbin"]});
    image::pack(path, tag, &[Variant { architecture, config, layers: vec![files] }])
}

/// A program of `tests/programs` that needs nothing but the standard library, linked statically.
fn rust(path: &Path, name: &str) -> Result<()> {
    let mut rustc = Command::new("rustc");
    rustc.current_dir(workspace()).args(["--edition", "2024", "-O", "-Cstrip=symbols"]);
    rustc.args(["-Ctarget-feature=+crt-static", "-o"]).arg(path);
    run(rustc.arg(format!("tests/programs/{name}.rs")))
}

fn go(path: &Path) -> Result<()> {
    let mut go = Command::new("go");
    go.args(["build", "-trimpath", "-buildvcs=false", "-o"]).arg(path).arg(".");
    run(go.current_dir(workspace().join("tests/targets/cluster")).env("CGO_ENABLED", "0"))
}

/// A program of this machine with the libraries that it loads.
fn dynamic(program: &Path) -> Result<Vec<Entry>> {
    let said = output(Command::new("ldd").arg(program))?;
    let mut paths = BTreeSet::new();
    for line in said.lines() {
        ensure!(!line.contains("not found"), "{}: {line}", program.display());
        paths.extend(line.split_whitespace().filter(|word| word.starts_with('/')));
    }
    let mut files = Vec::new();
    for path in [program.to_str().context("a path that is UTF-8")?].into_iter().chain(paths) {
        let content = fs::read(path).with_context(|| path.to_owned())?;
        files.push((path.trim_start_matches('/').to_owned(), content, 0o755));
    }
    Ok(files)
}
