//! What the kernel side remembers of threads that make calls of a TLS library goes with them, however they end.

use remora_tests::{
    agent::Agent,
    kernel_objects::KernelObjects,
    process::until,
    programs::{certificate, target},
    skip,
};

const KILLS: &str = "4";

#[test]
fn nothing_is_left_of_threads_that_are_killed_at_once() {
    if skip::without_root() || skip::without(&["python3", "openssl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let script = target("tls_threads.py");
    let line =
        format!("cd {} && exec python3 {} {KILLS}", folder.path().display(), script.display());
    let agent = Agent::bare(&["exec", "--otlp-file", "/dev/null", "--", "sh", "-c", &line]);
    until("the last of them to be killed", || agent.stdout().contains("done"));
    let held = KernelObjects::of(agent.pid()).unwrap();
    until("entries of threads to go", || held.entries("TLS_THREADS") == Some(0));
    assert_eq!(held.entries("TLS_OUTER"), Some(0));
    assert_eq!(held.entries("SET_ASIDE"), Some(0));
    assert_eq!(held.entries("NO_SUCH_MAP"), None);
}
