//! What all resources of one agent share: the host, its operating system, and the attributes that the
//! agent's own `OTEL_RESOURCE_ATTRIBUTES` adds to every target.

use std::fs;

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
        let line = |path: &str| {
            let text = fs::read_to_string(path).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let id = line("/etc/machine-id").or_else(|| line("/var/lib/dbus/machine-id"));
        let release = fs::read_to_string("/etc/os-release")
            .or_else(|_| fs::read_to_string("/usr/lib/os-release"))
            .unwrap_or_default();
        let found = [
            (key::HOST_NAME, line("/proc/sys/kernel/hostname")),
            (key::HOST_ID, id.clone()),
            (key::HOST_ARCH, Some(arch().to_owned())),
            (key::OS_TYPE, Some("linux".to_owned())),
            (key::OS_NAME, os_release(&release, "NAME")),
            (key::OS_VERSION, os_release(&release, "VERSION_ID")),
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
        assert!(has("host.name") && has("host.arch") && has("os.type"));
        assert!(!host.boot_id.is_empty());
        assert_eq!(host.agent_attributes, [("team".into(), "blue".into())]);
    }
}
