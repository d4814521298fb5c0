//! Which processes are watched, and who they are.
//!
//! [`Selectors`] decide from the few facts that may be known of a process nobody selected: pid,
//! executable path, command name, listening ports. [`Scanner`] reads those facts, keeps the table of
//! [`Target`]s, and reads more (environment, control group, sockets, libraries) of selected ones only.
//! Telling the kernel side is left to the caller: the scanner answers with a [`Change`].

mod cgroup;
mod container;
mod host;
mod listening;
mod pattern;
mod ports;
mod profile;
pub mod resource_attributes;
mod scanner;
mod selector;
mod service_name;
mod sha1;
mod sockets;
pub mod tls;

pub use host::Host;
pub use pattern::{Pattern, PatternError};
pub use ports::{Ports, PortsError};
pub use scanner::{Change, Scanner, Target};
pub use selector::{Criteria, Facts, Needs, NothingSelected, Selection, Selector, Selectors};
pub(crate) use sha1::instance_uuid;
pub use sockets::{SocketEntry, SocketState, SocketTable};
