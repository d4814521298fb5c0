fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    println!("cargo:rerun-if-changed=/work/bpf/target/bpfel-unknown-none/release/remora");
    std::fs::copy("/work/bpf/target/bpfel-unknown-none/release/remora", format!("{out}/remora.bpf.o")).unwrap();
}
