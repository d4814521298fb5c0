//! Which processes are watched, and who they are.
//!
//! [`Selectors`] decide from the few facts that may be known of a process nobody selected: pid,
//! executable path, command name, listening ports, container and pod. [`Scanner`] reads those facts, keeps the table of
//! [`Target`]s, and reads more (environment, control group, sockets, libraries) of selected ones only.
//! Telling the kernel side is left to the caller: the scanner answers with a [`Change`].

mod cgroup;
pub mod cloud;
mod elf_class;
mod host;
mod listening;
mod pattern;
mod pod_criteria;
mod ports;
mod profile;
pub mod resource_attributes;
mod scanner;
mod selector;
mod service_name;
mod sha1;
mod sockets;
mod started_as;

pub use elf_class::is_32_bit;
pub use host::Host;
pub use pattern::{Pattern, PatternError};
pub use pod_criteria::{OwnerPattern, PodCriteria, PodFacts};
pub use ports::{Ports, PortsError};
pub(crate) use scanner::REMEMBERED;
pub use scanner::{Change, Scanner, Target};
pub use selector::{Criteria, Facts, Needs, NothingSelected, Selection, Selector, Selectors};
pub(crate) use sha1::instance_uuid;
pub(crate) use sockets::pid;
pub use sockets::{SocketEntry, SocketState, SocketTable};

/// For `fuzzing`: readers of what processes say of themselves.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz_texts(text: &str) {
    let container = crate::container::Container::of_cgroup(text);
    assert!(container.pod.is_none_or(|pod| matches!(pod.uid.len(), 32 | 36)));
    let arguments: Vec<String> = text.split('\0').map(str::to_owned).collect();
    let exe = arguments.first().cloned().unwrap_or_default();
    let name = service_name::service_name(exe.as_ref(), &arguments);
    assert!(!name.is_empty() && name.len() <= 128);
}
