//! Images made of programs that this machine has: a layer that they share, with OpenSSL in it, and small ones
//! of their own. In one archive, as `docker save` writes it; both containerd and Podman read that.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Write,
    path::Path,
    process::Command,
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::{
    process::output,
    programs::{built, certificate},
};

/// nginx over TLS, plain on the port behind, with curl beside it.
pub const WEB: &str = "localhost/web:1.0";
/// The same and one file more: an image of other layers but the lowest.
pub const EDGE: &str = "localhost/edge:2.1";
/// Where one that `nginx -c /etc/nginx/second.conf` starts beside the first listens for TLS, and what it logs.
pub const SECOND_PORT: u16 = PORT + 2;
pub const SECOND_LOG: &str = "/tmp/second.log";
/// What holds a pod's namespaces.
pub const PAUSE: &str = "localhost/pause:1";
/// Answers one request and ends.
pub const ONCE: &str = "localhost/once:1";
/// Where nginx listens for TLS; without it one port further.
pub const PORT: u16 = 8443;

const NGINX: &str =
    "user root; worker_processes 1; daemon off; pid /tmp/nginx.pid; error_log stderr;
    events { worker_connections 64; }
    http {
        log_format oracle '$request_method $uri $status';
        access_log /dev/stdout oracle;
        client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
        uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
        server {
            listen @TLS@ ssl; listen @PLAIN@;
            ssl_certificate /etc/nginx/cert.pem; ssl_certificate_key /etc/nginx/key.pem;
            location / { return 200 'hello'; }
        }
    }";

/// Programs that images are made of, and those that make them.
pub const NEEDS: [&str; 4] = ["nginx", "curl", "ldd", "openssl"];

/// A file of a layer: path in the image, content, mode.
type Entry = (String, Vec<u8>, u32);

/// Writes an archive of all of them.
///
/// # Panics
/// If a program is missing.
pub fn archive(path: &Path) {
    let folder = TempDir::new().expect("a folder");
    certificate(folder.path());
    let read = |name: &str| fs::read(folder.path().join(name)).expect("a file of ours");
    let text = |path: &str, text: &str| (path.to_owned(), text.as_bytes().to_vec(), 0o644);
    let conf =
        |at: u16| NGINX.replace("@TLS@", &at.to_string()).replace("@PLAIN@", &(at + 1).to_string());
    let second = conf(PORT + 2)
        .replace("nginx.pid", "second.pid")
        .replace("error_log stderr", "error_log /tmp/second-error.log")
        .replace("/dev/stdout", SECOND_LOG);
    let web = [
        text("etc/nginx/nginx.conf", &conf(PORT)),
        // For a second one beside the first.
        text("etc/nginx/second.conf", &second),
        ("etc/nginx/cert.pem".into(), read("cert.pem"), 0o644),
        ("etc/nginx/key.pem".into(), read("key.pem"), 0o600),
    ];
    let base = Layer::new(&with_libraries(&["nginx", "curl"]));
    let web = Layer::new(&web);
    let marked = Layer::new(&[text("etc/edge", "the other image")]);
    let program =
        |name: &str| Layer::new(&with_libraries(&[built().join(name).to_str().expect("a path")]));
    let (once, pause) = (program("once"), program("pause"));
    let nginx = ["/usr/sbin/nginx", "-c", "/etc/nginx/nginx.conf"];
    let mut archive = Archive::new(path);
    archive.add(WEB, &[&base, &web], &nginx);
    archive.add(EDGE, &[&base, &web, &marked], &nginx);
    let inside = |name: &str| format!("/opt/{name}");
    archive.add(ONCE, &[&once], &[&inside("once"), "8080"]);
    archive.add(PAUSE, &[&pause], &[&inside("pause")]);
    archive.finish();
}

/// Programs with the libraries that they load, and what every program looks for.
fn with_libraries(programs: &[&str]) -> Vec<Entry> {
    let mut files = BTreeMap::new();
    for program in programs {
        let found = output(Command::new("sh").args(["-c", "command -v \"$0\"", program]));
        let found = fs::canonicalize(found.trim()).expect("a program");
        let said = output(Command::new("ldd").arg(&found));
        assert!(!said.contains("not found"), "{}: {said}", found.display());
        let libraries: BTreeSet<_> =
            said.split_whitespace().filter(|word| word.starts_with('/')).collect();
        for library in libraries {
            files.insert(library.trim_start_matches('/').to_owned(), library.into());
        }
        let name = found.file_name().and_then(|name| name.to_str()).expect("a name");
        let inside = match program.contains('/') {
            true => format!("opt/{name}"),
            false => found.to_str().expect("a path").trim_start_matches('/').to_owned(),
        };
        files.insert(inside, found);
    }
    let read = |(path, from)| (path, fs::read(from).expect("a file of this machine"), 0o755);
    let mut files: Vec<Entry> = files.into_iter().map(read).collect();
    let text = |path: &str, text: &str| (path.to_owned(), text.as_bytes().to_vec(), 0o644);
    files.push(text("etc/passwd", "root:x:0:0::/:/\nnobody:x:65534:65534::/:/\n"));
    files.push(text("etc/group", "root:x:0:\nnogroup:x:65534:\n"));
    files.push(text("tmp/.keep", ""));
    files
}

struct Layer {
    tar: Vec<u8>,
    digest: String,
}

impl Layer {
    fn new(files: &[Entry]) -> Self {
        let mut tar = tar::Builder::new(Vec::new());
        files.iter().for_each(|(path, content, mode)| append(&mut tar, path, content, *mode));
        let tar = tar.into_inner().expect("memory");
        Self { digest: digest(&tar), tar }
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn append<W: Write>(tar: &mut tar::Builder<W>, path: &str, content: &[u8], mode: u32) {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    tar.append_data(&mut header, path, content).expect("room");
}

struct Archive {
    tar: tar::Builder<File>,
    layers: BTreeSet<String>,
    manifest: Vec<Value>,
}

impl Archive {
    fn new(path: &Path) -> Self {
        let tar = tar::Builder::new(File::create(path).expect("a file"));
        Self { tar, layers: BTreeSet::new(), manifest: Vec::new() }
    }

    fn add(&mut self, tag: &str, layers: &[&Layer], command: &[&str]) {
        let digests = layers.iter().map(|layer| format!("sha256:{}", layer.digest));
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
            "config": {"Entrypoint": command, "Env": ["PATH=/usr/sbin:/usr/bin"]},
            "rootfs": {"type": "layers", "diff_ids": digests.collect::<Vec<_>>()},
        });
        let config = config.to_string();
        let config_name = format!("{}.json", digest(config.as_bytes()));
        append(&mut self.tar, &config_name, config.as_bytes(), 0o644);
        let name = |layer: &Layer| format!("{}.tar", layer.digest);
        for layer in layers {
            if self.layers.insert(layer.digest.clone()) {
                append(&mut self.tar, &name(layer), &layer.tar, 0o644);
            }
        }
        let names: Vec<String> = layers.iter().map(|layer| name(layer)).collect();
        self.manifest.push(json!({"Config": config_name, "RepoTags": [tag], "Layers": names}));
    }

    fn finish(mut self) {
        let manifest = Value::Array(self.manifest).to_string();
        append(&mut self.tar, "manifest.json", manifest.as_bytes(), 0o644);
        self.tar.into_inner().and_then(|mut file| file.flush()).expect("room");
    }
}
