//! Builds the programs that end-to-end tests run and Cargo does not build.

fn main() {
    remora_tests::programs::build_all();
}
