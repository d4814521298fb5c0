//! libFuzzer on one of the agent's readers of bytes, the one that `REMORA_FUZZ_TARGET` names: one
//! program, because instrumenting and linking the agent is what takes long. `cargo xtask fuzz` builds
//! and runs it.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod target {
    use std::sync::LazyLock;

    use remora::fuzzing::TARGETS;

    static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
        let name = std::env::var("REMORA_FUZZ_TARGET").unwrap_or_default();
        let target = TARGETS.iter().find(|(known, _)| *known == name);
        let names: Vec<&str> = TARGETS.iter().map(|(known, _)| *known).collect();
        target
            .unwrap_or_else(|| panic!("REMORA_FUZZ_TARGET is `{name}`, expected one of {names:?}"))
            .1
    });

    libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));
}

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("built without instrumentation: use `cargo xtask fuzz`");
}
