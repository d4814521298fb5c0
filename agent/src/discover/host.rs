//! What all resources of one agent share: the host, its operating system, and the attributes that the
//! agent's own `OTEL_RESOURCE_ATTRIBUTES` adds to every target.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use opentelemetry_semantic_conventions::attribute as key;

use crate::attribute::Value;

/// Facts about this host, read once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Host {
    /// `/etc/machine-id`, if there is one.
    pub id: Option<Box<str>>,
    /// Differs from one boot to the next.
    pub boot_id: Box<str>,
    /// From the agent's environment; a target's own come first.
    pub agent_attributes: Vec<(Box<str>, Value)>,
    /// `host.*` and `os.*`.
    pub attributes: Vec<(Box<str>, Value)>,
}

impl Host {
    /// Reads the facts; what cannot be read is absent. `agent_attributes` are the parsed
    /// `OTEL_RESOURCE_ATTRIBUTES` of the agent.
    #[must_use]
    pub fn detect(agent_attributes: &[(String, String)]) -> Self {
        // In a container the host's files are below its first process, and the image has others or none.
        let roots = [Path::new("/proc/1/root"), Path::new("/")];
        let [first, own] =
            roots.map(|root| fs::metadata(root).map(|found| (found.dev(), found.ino())).ok());
        let contained = first.is_some() && first != own;
        Self::read(if contained { &roots } else { &roots[1..] }, agent_attributes)
    }

    /// [`Self::detect`] with files from the first of `roots` that has them.
    fn read(roots: &[&Path], agent_attributes: &[(String, String)]) -> Self {
        let line = |path: &str| {
            let text = fs::read_to_string(path).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let file = |paths: [&str; 2]| {
            let paths = roots.iter().flat_map(|root| paths.map(|path| root.join(path)));
            let texts = paths.filter_map(|path| fs::read_to_string(path).ok());
            texts.map(|text| text.trim().to_owned()).find(|text| !text.is_empty())
        };
        let id = file(["etc/machine-id", "var/lib/dbus/machine-id"]);
        let release = file(["etc/os-release", "usr/lib/os-release"]).unwrap_or_default();
        let build = os_release(&release, "BUILD_ID");
        let found = [
            (key::HOST_NAME, line("/proc/sys/kernel/hostname")),
            (key::HOST_ID, id.clone()),
            (key::HOST_ARCH, Some(arch().to_owned())),
            (key::OS_TYPE, Some("linux".to_owned())),
            (key::OS_NAME, os_release(&release, "NAME")),
            (key::OS_VERSION, os_release(&release, "VERSION_ID")),
            (key::OS_BUILD_ID, build.or_else(|| line("/proc/sys/kernel/osrelease"))),
            (key::OS_DESCRIPTION, os_release(&release, "PRETTY_NAME")),
        ];
        Self {
            id: id.map(Into::into),
            boot_id: line("/proc/sys/kernel/random/boot_id").unwrap_or_default().into(),
            agent_attributes: agent_attributes
                .iter()
                .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
                .collect(),
            attributes: found
                .into_iter()
                .filter_map(|(key, value)| Some((key.into(), value?.into())))
                .collect(),
        }
    }

    /// With what the provider of the machine says of it, which comes first.
    #[must_use]
    pub fn rented(mut self, said: Vec<(Box<str>, Value)>) -> Self {
        self.attributes.splice(..0, said);
        self
    }
}

/// `host.arch` as the semantic conventions spell it.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm32",
        "powerpc64" => "ppc64",
        other => other,
    }
}

/// A variable of os-release(5), unquoted.
fn os_release(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix('=')?.trim();
        let quoted = ['"', '\'']
            .iter()
            .find_map(|&quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)));
        Some(quoted.unwrap_or(value).to_owned()).filter(|value| !value.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_os_release_quoted_or_not() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12\"\nNAME='Debian'\nVERSION_ID=12\nID=\n";
        assert_eq!(os_release(text, "PRETTY_NAME").as_deref(), Some("Debian GNU/Linux 12"));
        assert_eq!(os_release(text, "NAME").as_deref(), Some("Debian"));
        assert_eq!(os_release(text, "VERSION_ID").as_deref(), Some("12"));
        assert_eq!(os_release(text, "ID"), None);
        assert_eq!(os_release(text, "VERSION"), None);
    }

    #[test]
    fn knows_this_host() {
        let host = Host::detect(&[("team".into(), "blue".into())]);
        let has = |wanted: &str| host.attributes.iter().any(|(key, _)| &**key == wanted);
        assert!(has("host.name") && has("host.arch") && has("os.type") && has("os.build_id"));
        assert!(!host.boot_id.is_empty());
        assert_eq!(host.agent_attributes, [("team".into(), "blue".into())]);
    }

    #[test]
    fn takes_files_of_the_first_process_before_the_agents_own() {
        let folder = tempfile::tempdir().unwrap();
        let (host, image) = (folder.path().join("host"), folder.path().join("image"));
        for (root, files) in [
            (&host, [("usr/lib/os-release", "NAME=Host\nBUILD_ID=7\n"), ("etc/machine-id", "\n")]),
            (&image, [("etc/os-release", "NAME=Image\nVERSION_ID=9\n"), ("etc/machine-id", "m\n")]),
        ] {
            for (file, text) in files {
                fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
                fs::write(root.join(file), text).unwrap();
            }
        }
        let said = |host: &Host, wanted: &str| {
            let found = host.attributes.iter().find(|(key, _)| &**key == wanted);
            found.map(|(_, value)| value.clone())
        };
        let found = Host::read(&[&host, &image], &[]);
        assert_eq!(said(&found, "os.name"), Some("Host".into()));
        assert_eq!(said(&found, "os.build_id"), Some("7".into()));
        assert_eq!(said(&found, "os.version"), None, "of another system");
        assert_eq!(found.id.as_deref(), Some("m"), "an empty file is none");
        let rented = found.rented(vec![("os.name".into(), "rented".into())]);
        assert_eq!(said(&rented, "os.name"), Some("rented".into()), "it comes first");
    }
}
