//! Holds the namespaces of a pod: does nothing until it is killed.

fn main() {
    loop {
        std::thread::park();
    }
}
