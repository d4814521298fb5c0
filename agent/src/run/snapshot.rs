//! What the worker knows of itself, for `/status`.

use crate::{
    kubernetes::peers::Counts,
    status::{Accounting, BlindSpot, Targets},
};

/// See the module.
#[derive(Default)]
pub(super) struct Snapshot {
    pub(super) accounting: Accounting,
    pub(super) targets: Targets,
    pub(super) blind_spots: Vec<BlindSpot>,
    pub(super) peers: Option<Counts>,
}
