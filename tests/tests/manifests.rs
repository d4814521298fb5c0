//! The manifests for Kubernetes ask for what a test shows to be enough, and no more; what they configure is right.

use std::{fs, path::PathBuf, process::Command};

use remora_tests::{agent::binary, process::output, skip};

fn deploy(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(deploy(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What stands between brackets behind `key`.
fn list(text: &str, key: &str) -> Vec<String> {
    let (_, rest) = text.split_once(key).unwrap_or_else(|| panic!("no `{key}`"));
    let (inner, _) = rest.split_once(']').unwrap();
    inner.split(',').map(|item| item.trim().to_owned()).collect()
}

#[test]
fn pods_have_the_capabilities_of_the_unit() {
    let unit = read("systemd/remora.service");
    let set = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let expected: Vec<&str> =
        set.split_whitespace().map(|name| name.strip_prefix("CAP_").unwrap()).collect();
    for (file, key) in [
        ("kubernetes/base/daemonset.yaml", "add: ["),
        ("kubernetes/sidecar/pod.yaml", "add: ["),
        ("helm/remora/values.yaml", "capabilities: ["),
    ] {
        assert_eq!(list(&read(file), key), expected, "{file}");
    }
}

#[test]
fn chart_and_manifests_ask_the_api_server_for_the_same() {
    let rules = |file: &str| -> Vec<String> {
        let text = read(file);
        let rules = text.lines().map(str::trim).filter(|line| line.starts_with("- {apiGroups"));
        rules.map(str::to_owned).collect()
    };
    let expected = rules("kubernetes/base/rbac.yaml");
    assert_eq!(expected.len(), 4);
    assert_eq!(rules("helm/remora/templates/rbac.yaml"), expected);
    assert!(expected.iter().all(|rule| !rule.contains('*') && !rule.contains("secrets")));
}

#[test]
fn the_manifests_configuration_is_right() {
    let config = deploy("kubernetes/base/remora.yaml");
    output(Command::new(binary()).args(["config", "check"]).arg(config));
}

#[test]
fn the_values_have_keys_that_the_schema_knows() {
    let schema: serde_json::Value =
        serde_json::from_str(&read("helm/remora/values.schema.json")).unwrap();
    let known = schema["properties"].as_object().unwrap();
    let values = read("helm/remora/values.yaml");
    let keys: Vec<&str> = values
        .lines()
        .filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()))
        .filter_map(|line| Some(line.split_once(':')?.0))
        .collect();
    assert!(keys.len() > 15, "{keys:?}");
    for key in keys {
        assert!(known.contains_key(key), "{key}");
    }
}

#[test]
fn kustomize_renders_both_variants() {
    if skip::without(&["kubectl"]) {
        return;
    }
    let render =
        |folder: &str| output(Command::new("kubectl").arg("kustomize").arg(deploy(folder)));
    let base = render("kubernetes/base");
    assert_eq!(base.matches("\nkind: ").count() + usize::from(base.starts_with("kind: ")), 8);
    assert!(base.contains("privileged: false") && base.contains("remora-ebpf.github.io/capture"));
    assert!(render("kubernetes/privileged").contains("privileged: true"));
}
