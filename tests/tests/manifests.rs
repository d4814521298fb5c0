//! The manifests for Kubernetes ask for what a test shows to be enough, and no more; what they configure is right.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use remora_tests::{agent::binary, process::output, skip};
use tempfile::TempDir;

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
    // One more where peers are asked for.
    let services = "{apiGroups: [\"\"], resources: [services], verbs: [list, watch]}";
    let of_chart = rules("helm/remora/templates/rbac.yaml");
    assert_eq!(of_chart, [&*expected, &[format!("- {services}")]].concat());
    assert!(read("kubernetes/peers/kustomization.yaml").contains(services));
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
    assert!(!base.contains("services"), "nobody asks for them");
}

#[test]
fn kustomize_lets_agents_see_services_only_with_peers() {
    if skip::without(&["kubectl"]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    // Kustomize takes what lies beside or above by relative paths only.
    let to = |path: &str| {
        let up = folder
            .path()
            .canonicalize()
            .unwrap()
            .components()
            .skip(1)
            .map(|_| "..")
            .collect::<PathBuf>();
        up.join(deploy(path).canonicalize().unwrap().strip_prefix("/").unwrap())
    };
    let own = serde_json::json!({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [to("kubernetes/base")], "components": [to("kubernetes/peers")]});
    fs::write(folder.path().join("kustomization.yaml"), own.to_string()).unwrap();
    let rendered = output(Command::new("kubectl").arg("kustomize").arg(folder.path()));
    assert!(
        rendered.contains("  - services\n") && rendered.contains("REMORA_KUBERNETES_PEERS"),
        "{rendered}"
    );
}

/// Helm where it is installed, or where `cargo xtask k8s` keeps what it has built; prints the reason to skip
/// otherwise.
fn helm() -> Option<Command> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    // Root may have another home; the backends are kept beside it.
    let backends = env::var_os("REMORA_BACKENDS").map(PathBuf::from);
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".cache/remora/backends"));
    for kept in [backends, home].into_iter().flatten() {
        let built = fs::read_dir(kept.join("../k8s")).into_iter().flatten().flatten();
        folders.extend(built.map(|entry| entry.path()).filter(|path| path.join("helm").is_file()));
    }
    let helm = folders.into_iter().map(|folder| folder.join("helm")).find(|path| path.is_file());
    if helm.is_none() {
        println!("skipped: there is no helm; `cargo xtask k8s --get` builds one");
    }
    helm.map(Command::new)
}

#[test]
fn helm_finds_nothing_wrong_with_the_chart() {
    let Some(mut helm) = helm() else { return };
    let said = output(helm.args(["lint", "--strict"]).arg(deploy("helm/remora")));
    assert!(said.contains("1 chart(s) linted, 0 chart(s) failed"), "{said}");
}

#[test]
fn the_chart_is_rendered_as_it_was() {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/helm");
    for name in ["default", "other", "peers"] {
        let Some(mut helm) = helm() else { return };
        helm.args(["template", "remora", "--namespace", "remora", "--kube-version", "1.34.4"]);
        helm.arg(deploy("helm/remora"));
        let values = data.join(format!("{name}.values.yaml"));
        if values.is_file() {
            helm.arg("--values").arg(values);
        }
        let rendered = output(&mut helm);
        let before = data.join(format!("{name}.yaml"));
        if fs::read_to_string(&before).unwrap_or_default().trim() != rendered.trim() {
            let now = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.yaml"));
            fs::write(&now, rendered.trim_end().to_owned() + "\n").unwrap();
            panic!(
                "{} is rendered otherwise: if it is meant so, copy {}",
                before.display(),
                now.display()
            );
        }
    }
}

#[test]
fn values_that_cannot_work_are_refused_by_name() {
    for (set, names) in [
        ("capabilities={CAP_BPF}", "/capabilities/0"),
        ("config.selectors=null", "selectors"),
        ("config.kubernetes.peers=maybe", "/config/kubernetes/peers"),
        ("imag.tag=x", "imag"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("terminationGracePeriodSeconds=1", "/terminationGracePeriodSeconds"),
    ] {
        let Some(mut helm) = helm() else { return };
        helm.args(["template", "remora", "--kube-version", "1.34.4", "--set", set]);
        let done = helm.arg(deploy("helm/remora")).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains(names), "{set}: {said}");
    }
}
