//! Which programs is a cluster made of, and how does one get those that are not here?
//!
//! Kubernetes and Helm are built from their published Go modules, what runs containers comes from the
//! distribution's packages, unpacked and not installed. All of it is kept below `~/.cache/remora/k8s`, by version.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    apt,
    backends::{debian, go::check_go},
    shell::{self, Scratch, output, run},
};

/// The last minor version that runs on control groups of version 1 as well as 2.
pub(super) const KUBERNETES: &str = "1.34.4";
const COMMANDS: [&str; 6] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
];
const HELM: &str = "3.19.4";

/// Package, and a file that it has.
const PACKAGES: [(&str, &str); 4] = [
    ("containerd", "usr/bin/containerd"),
    ("containernetworking-plugins", "usr/lib/cni/bridge"),
    ("etcd-server", "usr/bin/etcd"),
    ("runc", "usr/sbin/runc"),
];

/// What is installed, as tests install it, too.
const NEEDS: [&str; 7] = ["cc", "go", "ip", "nft", "nginx", "openssl", "unshare"];

pub(super) struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Where they are, or would be.
    pub(super) fn known() -> Result<Self> {
        Ok(Self { folder: shell::cache()?.join("k8s") })
    }

    /// Gets what is not here: 20 CPU minutes the first time.
    pub(super) fn ensure() -> Result<()> {
        apt::ensure(&NEEDS)?;
        let programs = Self::known()?;
        fs::create_dir_all(&programs.folder)?;
        let kubernetes = programs.kubernetes();
        if !COMMANDS.iter().all(|command| kubernetes.join(command).is_file()) {
            took("Kubernetes", || build_kubernetes(&kubernetes))?;
        }
        if !programs.helm().is_file() {
            took("Helm", || build_helm(&programs.helm()))?;
        }
        for (package, file) in PACKAGES {
            let home = programs.package(package);
            if !home.join(file).is_file() {
                whole(&home, |partial| debian::unpack_all(package, partial).map(drop))?;
                ensure!(home.join(file).is_file(), "{package} has no {file}");
            }
        }
        println!(
            "k8s: Kubernetes {KUBERNETES} and Helm {HELM} are in {}",
            programs.folder.display()
        );
        Ok(())
    }

    fn kubernetes(&self) -> PathBuf {
        self.folder.join(format!("kubernetes-{KUBERNETES}"))
    }

    fn package(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn helm(&self) -> PathBuf {
        self.folder.join(format!("helm-{HELM}/helm"))
    }

    pub(super) fn kubectl(&self) -> PathBuf {
        self.kubernetes().join("kubectl")
    }

    /// Plugins that give pods their network.
    pub(super) fn cni(&self) -> PathBuf {
        self.package("containernetworking-plugins").join("usr/lib/cni")
    }

    /// `PATH` with all of them first.
    pub(super) fn path(&self) -> Result<OsString> {
        let mut folders = vec![self.kubernetes()];
        for (package, file) in PACKAGES {
            folders.extend(self.package(package).join(file).parent().map(Path::to_owned));
        }
        // A user's PATH may lack it, and nft is there.
        folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        folders.push("/usr/sbin".into());
        Ok(env::join_paths(folders)?)
    }
}

fn took(what: &str, build: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("k8s: building {what}; this takes minutes");
    let started = Instant::now();
    build().with_context(|| format!("building {what}"))?;
    println!("k8s: {what} took {} s", started.elapsed().as_secs());
    Ok(())
}

/// Makes a folder whole or not at all.
fn whole(home: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let partial = home.with_extension(format!("partial-{}", std::process::id()));
    fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    let filled = fill(&partial).and_then(|()| {
        if home.exists() {
            fs::remove_dir_all(home)?;
        }
        Ok(fs::rename(&partial, home)?)
    });
    if filled.is_err() {
        // What is left is looked at by nobody.
        let _ = fs::remove_dir_all(&partial);
    }
    filled
}

/// A Go of the lowest priority whose intermediate results, gigabytes of them, are not kept.
fn go(folder: &Path, scratch: &Path) -> Command {
    let mut go = Command::new("nice");
    go.args(["-n", "19", "go"]).current_dir(folder);
    go.env("GOCACHE", scratch).env("CGO_ENABLED", "0").env("GOWORK", "off");
    go.env("GOFLAGS", "-mod=mod -trimpath -buildvcs=false");
    go
}

/// `k8s.io/kubernetes` names the modules beside it by their places in its own repository; they are published
/// as modules of their own, whose versions follow from its version.
fn build_kubernetes(home: &Path) -> Result<()> {
    check_go()?;
    let scratch = Scratch::new("kubernetes-build")?;
    let module = scratch.path().join("module");
    fs::create_dir(&module)?;
    let cache = scratch.path().join("cache");
    let manifest = |go: &str, replaced: &str| {
        let text = format!(
            "module remora/kubernetes\n\ngo {go}\n\nrequire k8s.io/kubernetes v{KUBERNETES}\n{replaced}"
        );
        fs::write(module.join("go.mod"), text)
    };
    manifest("1.24.0", "")?;
    let wanted = format!("k8s.io/kubernetes@v{KUBERNETES}");
    let said = output(go(&module, &cache).args(["mod", "download", "-json", &wanted]))?;
    let said: serde_json::Value = serde_json::from_str(&said).context("what Go says")?;
    let theirs = said["GoMod"].as_str().context("Go does not say where the module's go.mod is")?;
    let (version, staged) = staging(&fs::read_to_string(theirs)?);
    ensure!(!staged.is_empty(), "{theirs} names no modules of its repository");
    let published = format!("v0.{}", KUBERNETES.trim_start_matches("1."));
    let replaced: String =
        staged.iter().map(|one| format!("replace {one} => {one} {published}\n")).collect();
    manifest(&version, &replaced)?;
    fs::write(module.join("doc.go"), "package build\n")?;
    let minor = KUBERNETES.split('.').nth(1).context("a minor version")?;
    let mut flags = "-s -w".to_owned();
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        flags += &format!(
            " -X {package}.gitVersion=v{KUBERNETES} -X {package}.gitMajor=1 -X {package}.gitMinor={minor}"
        );
    }
    whole(home, |partial| {
        let mut build = go(&module, &cache);
        build.args(["build", "-ldflags", &flags, "-o"]).arg(partial);
        run(build.args(COMMANDS.map(|command| format!("k8s.io/kubernetes/cmd/{command}"))))
    })
}

/// The version of Go that a `go.mod` asks for, and the modules that it replaces by folders of its repository.
fn staging(manifest: &str) -> (String, Vec<String>) {
    let version = manifest.lines().find_map(|line| line.strip_prefix("go "));
    let staged = manifest.lines().filter_map(|line| line.trim().split_once(" => ./staging/"));
    let staged = staged.map(|(name, _)| name.trim_start_matches("replace ").to_owned());
    (version.unwrap_or("1.24.0").to_owned(), staged.collect())
}

fn build_helm(helm: &Path) -> Result<()> {
    check_go()?;
    let home = helm.parent().context("a folder")?;
    let scratch = Scratch::new("helm-build")?;
    whole(home, |partial| {
        let mut install = go(scratch.path(), &scratch.path().join("cache"));
        // Which Kubernetes it renders for if there is none to ask; its releases are built so, too.
        let minor = KUBERNETES.split('.').nth(1).context("a minor version")?;
        let mut flags = format!("-s -w -X helm.sh/helm/v3/internal/version.version=v{HELM}");
        for package in ["chartutil", "lint/rules"] {
            let package = format!("helm.sh/helm/v3/pkg/{package}");
            flags +=
                &format!(" -X {package}.k8sVersionMajor=1 -X {package}.k8sVersionMinor={minor}");
        }
        install.env("GOBIN", partial).args(["install", "-ldflags", &flags]);
        run(install.arg(format!("helm.sh/helm/v3/cmd/helm@v{HELM}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_the_repository_are_found_in_its_manifest() {
        let manifest = "module k8s.io/kubernetes\n\ngo 1.24.0\n\nrequire (\n\tk8s.io/api v0.0.0\n)\n\n\
                        replace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\tx.org/y => x.org/z v1.0.0\n)\n";
        assert_eq!(staging(manifest), ("1.24.0".into(), vec!["k8s.io/api".into()]));
    }
}
