//! Which of these programs are missing, and can the distribution's packages bring them?

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use remora_ebpf_build::toolchain::on_path;

use crate::shell::{Root, output, run};

/// The Debian or Ubuntu packages that have `command` and its services, where they are not called like it.
fn packages(command: &str) -> &str {
    match command {
        "apache2" => "apache2-bin",
        "busybox" => "busybox-static",
        "cc" => "gcc",
        "dpkg-deb" => "dpkg",
        "go" => "golang-go",
        "gunicorn" => "gunicorn python3-setproctitle",
        "host-local" => "containernetworking-plugins",
        "ip" => "iproute2",
        "lighttpd" => "lighttpd lighttpd-mod-gnutls",
        "javac" => "default-jdk-headless",
        "mvn" => "maven",
        "h2load" => "nghttp2-client",
        "nft" => "nftables",
        "nghttp" => "nghttp2-client",
        "nghttpd" => "nghttp2-server",
        "nghttpx" => "nghttp2-proxy",
        "nginx" => "nginx-light",
        "node" => "nodejs",
        "perf" => "linux-perf",
        "pip3" => "python3-pip",
        "postgres" | "pgbench" => "postgresql postgresql-common",
        "psql" => "postgresql-client",
        "qemu-system-x86_64" => "qemu-system-x86",
        "redis-benchmark" | "redis-cli" => "redis-tools",
        "waitress-serve" => "python3-waitress",
        "unshare" => "util-linux",
        "xz" => "xz-utils",
        same => same,
    }
}

/// Installs the packages of those commands that are not here, whoever brought the others.
pub(crate) fn ensure(commands: &[&str]) -> Result<()> {
    let (here, missing): (Vec<&str>, Vec<&str>) =
        commands.iter().partition(|command| find(command).is_some());
    if !here.is_empty() {
        println!("setup: {} present", here.join(", "));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> =
        missing.iter().flat_map(|command| packages(command).split(' ')).collect();
    install(&names)?;
    for command in missing {
        if find(command).is_none() {
            bail!("{command} is not there after installing {}", packages(command));
        }
    }
    Ok(())
}

/// Installs packages without what they recommend, and without starting the services they bring.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if on_path("apt-get").is_none() {
        bail!("this system has no apt: install what Debian calls {list}");
    }
    println!("setup: installing {list}");
    let root = Root::find(&format!("installing {list}"))?;
    let _quiet = NoServices::begin(root)?;
    let install = || {
        let mut apt = root.command("env");
        apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-q"]);
        run(apt.arg("--no-install-recommends").args(packages))
    };
    // The lists of a fresh image are often empty, and an update is slow: only when it is needed.
    if install().is_err() {
        run(root.command("apt-get").args(["update", "-q"]))?;
        install()?;
    }
    disable(root, packages)
}

/// What the services of these packages would do from the next boot on, they do not.
fn disable(root: Root, packages: &[&str]) -> Result<()> {
    if on_path("systemctl").is_none() {
        return Ok(());
    }
    let files = output(Command::new("dpkg-query").arg("--listfiles").args(packages))?;
    let units: Vec<&str> = files.lines().filter_map(unit).collect();
    match &*units {
        [] => Ok(()),
        units => run(root.command("systemctl").args(["disable", "--quiet"]).args(units)),
    }
}

/// The name of a unit of systemd that is not a template, from its path.
fn unit(path: &str) -> Option<&str> {
    let (folder, name) = path.rsplit_once('/')?;
    let kinds = [".service", ".socket", ".timer"];
    let starts = kinds.iter().any(|kind| name.ends_with(kind)) && !name.contains('@');
    (folder.ends_with("/systemd/system") && starts).then_some(name)
}

/// A command in `PATH` or in the folders of system programs, of container networks' plugins and of a
/// database's server, which a user's `PATH` may lack.
pub(crate) fn find(command: &str) -> Option<PathBuf> {
    on_path(command).or_else(|| {
        let dirs = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/lib/cni"].map(PathBuf::from);
        let mut dirs = dirs.into_iter().chain(postgres_folders());
        dirs.find_map(|dir| Some(dir.join(command)).filter(|file| file.is_file()))
    })
}

/// Where Debian keeps PostgreSQL's server programs: a folder for each major version.
fn postgres_folders() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.map(|version| version.path().join("bin")).collect()
}

/// While it lives, packages being installed may not start services: a web server for tests has no
/// business on this machine's port 80. A policy that is there already is left as it is.
struct NoServices(Option<Root>);

impl NoServices {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn begin(root: Root) -> Result<Self> {
        if Path::new(Self::POLICY).exists() {
            return Ok(Self(None));
        }
        let script =
            format!("printf '#!/bin/sh\\nexit 101\\n' >{0} && chmod 755 {0}", Self::POLICY);
        let status = root.command("sh").args(["-c", &script]).status();
        let written = status.is_ok_and(|status| status.success());
        written.then_some(Self(Some(root))).context("cannot write /usr/sbin/policy-rc.d")
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(root) = self.0
            && let Err(error) = root.command("rm").args(["-f", Self::POLICY]).status()
        {
            eprintln!("warning: {} stays: {error}", Self::POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_that_a_package_brings_are_told_from_its_other_files() {
        let files = [
            ("/lib/systemd/system/podman.socket", Some("podman.socket")),
            ("/usr/lib/systemd/system/containerd.service", Some("containerd.service")),
            ("/lib/systemd/system/podman-kube@.service", None),
            ("/usr/lib/systemd/user/podman.service", None),
            ("/usr/bin/containerd", None),
        ];
        for (path, expected) in files {
            assert_eq!(unit(path), expected, "{path}");
        }
    }
}
