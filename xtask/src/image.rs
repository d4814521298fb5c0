//! Writes a container image without Docker: an OCI image layout in one tar file, from scratch, with one
//! layer for what rarely changes (certificates), one for licences, and one for the static binary.
//! The same files give the same image, byte for byte.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{dist, shell::workspace};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Static binaries of other builds, one for each architecture of the image; by default this machine's
    /// is built
    #[arg(long, value_name = "FILE")]
    pub(crate) binary: Vec<PathBuf>,
    /// What the image is called
    #[arg(long, default_value = concat!("localhost/remora:", env!("CARGO_PKG_VERSION")))]
    pub(crate) tag: String,
    /// Certificate authorities that the agent trusts
    #[arg(long, value_name = "FILE", default_value = "/etc/ssl/certs/ca-certificates.crt")]
    pub(crate) certificates: PathBuf,
    /// Where to write it [default: dist/remora-VERSION.oci.tar]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let binaries = match &*options.binary {
        [] => vec![dist::static_binary()?],
        named => named.to_vec(),
    };
    let path = write(options, &binaries)?;
    println!("{}: {} bytes, {}", path.display(), path.metadata()?.len(), options.tag);
    Ok(())
}

/// A file of a layer: path in the image, content, mode.
pub(crate) type Entry = (String, Vec<u8>, u32);

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image for one architecture.
pub(crate) struct Variant {
    pub(crate) architecture: &'static str,
    /// What is run and how, as the OCI's `config` has it.
    pub(crate) config: Value,
    pub(crate) layers: Vec<Vec<Entry>>,
}

/// Packs static binaries as the project's image; returns where it is.
pub(crate) fn write(options: &Options, binaries: &[PathBuf]) -> Result<PathBuf> {
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let certificates =
        ("etc/ssl/certs/ca-certificates.crt".to_owned(), read(&options.certificates)?, 0o644);
    let licence = |name: &str| -> Result<Entry> {
        Ok((format!("usr/share/doc/remora/{name}"), read(&workspace().join(name))?, 0o644))
    };
    let shared = [vec![certificates], vec![licence("LICENSE-APACHE")?, licence("LICENSE-MIT")?]];
    let mut variants = Vec::new();
    for path in binaries {
        let binary = read(path)?;
        dist::ensure_static(&binary)
            .with_context(|| format!("{} is not static", path.display()))?;
        let architecture = architecture(&binary)?;
        let own = vec![("usr/bin/remora".to_owned(), binary, 0o755)];
        let config = json!({
            "Entrypoint": ["/usr/bin/remora"], "Cmd": ["run"],
            "Env": ["PATH=/usr/bin"], "StopSignal": "SIGTERM",
            "Labels": labels(),
        });
        let layers = shared.iter().cloned().chain([own]).collect();
        variants.push(Variant { architecture, config, layers });
    }
    let path = match &options.output {
        Some(path) => path.clone(),
        None => workspace().join(format!("dist/remora-{}.oci.tar", env!("CARGO_PKG_VERSION"))),
    };
    pack(&path, &options.tag, &variants)?;
    Ok(path)
}

/// Writes variants of one image as an OCI image layout in a tar file.
pub(crate) fn pack(path: &Path, tag: &str, variants: &[Variant]) -> Result<()> {
    let mut image = Image::default();
    let mut manifests = Vec::new();
    for Variant { architecture, config, layers: entries } in variants {
        let (mut layers, mut diffs) = (Vec::new(), Vec::new());
        for entries in entries {
            let tar = layer(entries)?;
            diffs.push(format!("sha256:{}", hex(&Sha256::digest(&tar))));
            layers.push(image.add(LAYER, gzip(&tar)?));
        }
        let config = json!({
            "architecture": architecture, "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diffs},
        });
        let config = image.add(CONFIG, config.to_string().into_bytes());
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        let mut manifest = image.add(MANIFEST, manifest.to_string().into_bytes());
        manifest["platform"] = json!({"architecture": architecture, "os": "linux"});
        manifests.push(manifest);
    }
    let names = json!({
        "org.opencontainers.image.ref.name": tag.rsplit(':').next(),
        "io.containerd.image.name": tag,
    });
    let mut top = match &mut *manifests {
        [only] => only.clone(),
        _ => {
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
            image.add(INDEX, index.to_string().into_bytes())
        }
    };
    top["annotations"] = names;
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [top]});
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    image.pack(&index, File::create(path).with_context(|| path.display().to_string())?)
}

fn labels() -> Value {
    json!({
        "org.opencontainers.image.title": "remora",
        "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
        "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
        "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
    })
}

/// `amd64` or `arm64`, from the machine that the ELF file is for.
pub(crate) fn architecture(elf: &[u8]) -> Result<&'static str> {
    match elf.get(18..20) {
        Some([62, 0]) => Ok("amd64"),
        Some([183, 0]) => Ok("arm64"),
        Some(other) => bail!("found machine {other:?}, expected x86-64 (62) or arm64 (183)"),
        None => bail!("the file is cut short"),
    }
}

/// Blobs by the hexadecimal digits of their digest.
#[derive(Default)]
struct Image(BTreeMap<String, Vec<u8>>);

impl Image {
    /// Adds a blob; returns its descriptor.
    fn add(&mut self, media_type: &str, blob: Vec<u8>) -> Value {
        let digest = hex(&Sha256::digest(&blob));
        let descriptor = json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": blob.len()});
        self.0.insert(digest, blob);
        descriptor
    }

    fn pack(&self, index: &Value, file: impl Write) -> Result<()> {
        let layout = json!({"imageLayoutVersion": "1.0.0"}).to_string().into_bytes();
        let mut entries = vec![
            ("oci-layout".to_owned(), layout, 0o644),
            ("index.json".to_owned(), index.to_string().into_bytes(), 0o644),
        ];
        let blobs = self
            .0
            .iter()
            .map(|(digest, blob)| (format!("blobs/sha256/{digest}"), blob.clone(), 0o644));
        entries.extend(blobs);
        archive(&entries, file)
    }
}

fn layer(entries: &[Entry]) -> Result<Vec<u8>> {
    let mut tar = Vec::new();
    archive(entries, &mut tar)?;
    Ok(tar)
}

/// A tar file of these files and the folders above them; nothing in it depends on when and by whom it is made.
fn archive(entries: &[Entry], file: impl Write) -> Result<()> {
    let mut tar = tar::Builder::new(file);
    let header = |kind, size: usize, mode| -> Result<tar::Header> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(size.try_into()?);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        Ok(header)
    };
    let mut made = std::collections::BTreeSet::new();
    for (path, content, mode) in entries {
        let mut above: Vec<&Path> = Path::new(path).ancestors().skip(1).collect();
        above.retain(|folder| !folder.as_os_str().is_empty());
        for folder in above.into_iter().rev() {
            if made.insert(folder.to_owned()) {
                let mut header = header(tar::EntryType::Directory, 0, 0o755)?;
                tar.append_data(&mut header, format!("{}/", folder.display()), &[][..])?;
            }
        }
        let mut header = header(tar::EntryType::Regular, content.len(), *mode)?;
        tar.append_data(&mut header, path, &**content)?;
    }
    tar.into_inner()?.flush()?;
    Ok(())
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    gzip.write_all(bytes)?;
    let packed = gzip.finish()?;
    ensure!(!packed.is_empty(), "nothing was packed");
    Ok(packed)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::shell::Scratch;

    /// A static ELF64 file for a machine, without anything in it.
    fn elf(machine: u8) -> Vec<u8> {
        let mut elf = vec![0; 64 + 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (elf[18], elf[32], elf[54], elf[56], elf[64]) = (machine, 64, 56, 1, 1);
        elf
    }

    fn image(name: &str, machines: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
        let scratch = Scratch::new(name)?;
        let file = |name: &str, content: &[u8]| -> Result<PathBuf> {
            let path = scratch.path().join(name);
            fs::write(&path, content)?;
            Ok(path)
        };
        let options = Options {
            binary: machines
                .iter()
                .map(|machine| file(&format!("remora-{machine}"), &elf(*machine)))
                .collect::<Result<_>>()?,
            tag: "localhost/remora:test".into(),
            certificates: file("certificates", b"authorities")?,
            output: Some(scratch.path().join("image.tar")),
        };
        let path = write(&options, &options.binary)?;
        let mut archive = tar::Archive::new(File::open(path)?);
        let mut files = BTreeMap::new();
        for entry in archive.entries()? {
            let mut entry = entry?;
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            files.insert(entry.path()?.display().to_string(), content);
        }
        Ok(files)
    }

    fn blob(files: &BTreeMap<String, Vec<u8>>, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let blob = files[&format!("blobs/sha256/{digest}")].clone();
        assert_eq!(hex(&Sha256::digest(&blob)), digest);
        assert_eq!(descriptor["size"], blob.len());
        blob
    }

    fn json_of(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn an_image_has_certificates_licences_and_the_binary_in_layers_of_their_own() {
        let files = image("image-one", &[62]).unwrap();
        let index = json_of(&files["index.json"]);
        let top = &index["manifests"][0];
        assert_eq!(top["annotations"]["io.containerd.image.name"], "localhost/remora:test");
        let manifest = json_of(&blob(&files, top));
        let config = json_of(&blob(&files, &manifest["config"]));
        assert_eq!(config["architecture"], "amd64");
        let mut paths = Vec::new();
        for (at, layer) in manifest["layers"].as_array().unwrap().iter().enumerate() {
            let mut tar = Vec::new();
            flate2::read::GzDecoder::new(&*blob(&files, layer)).read_to_end(&mut tar).unwrap();
            assert_eq!(
                config["rootfs"]["diff_ids"][at],
                format!("sha256:{}", hex(&Sha256::digest(&tar)))
            );
            let mut tar = tar::Archive::new(&*tar);
            paths.push(
                tar.entries()
                    .unwrap()
                    .map(|entry| entry.unwrap().path().unwrap().display().to_string())
                    .filter(|path| !path.ends_with('/'))
                    .collect::<Vec<_>>(),
            );
        }
        assert_eq!(paths[0], ["etc/ssl/certs/ca-certificates.crt"]);
        assert_eq!(paths[1].len(), 2);
        assert_eq!(paths[2], ["usr/bin/remora"]);
    }

    #[test]
    fn several_binaries_make_an_index_that_shares_layers() {
        let files = image("image-two", &[62, 183]).unwrap();
        let index = json_of(&blob(&files, &json_of(&files["index.json"])["manifests"][0]));
        let manifests = index["manifests"].as_array().unwrap();
        let architectures: Vec<_> =
            manifests.iter().map(|one| &one["platform"]["architecture"]).collect();
        assert_eq!(architectures, ["amd64", "arm64"]);
        let layers: Vec<_> =
            manifests.iter().map(|one| json_of(&blob(&files, one))["layers"].clone()).collect();
        assert_eq!(layers[0][0], layers[1][0]);
        assert_ne!(layers[0][2], layers[1][2]);
    }

    #[test]
    fn the_same_files_give_the_same_image() {
        assert_eq!(image("image-a", &[62]).unwrap(), image("image-b", &[62]).unwrap());
    }

    #[test]
    fn a_binary_for_another_machine_is_refused_by_name() {
        let error = image("image-riscv", &[243]).unwrap_err();
        assert!(error.to_string().contains("243"), "{error:#}");
    }
}
