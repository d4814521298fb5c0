//! What the kernel side has counted.

use aya::maps::{MapData, MapError, PerCpuArray};
use remora_common::counter::Counter;

/// What the kernel side counts; it outlives the programs.
pub struct Counters(pub(super) PerCpuArray<MapData, u64>);

/// What the kernel side gave up on, by reason.
pub type Drops = [(Counter, u64); Counter::DROPS.len()];

impl Counters {
    /// What the kernel side gave up on so far.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn drops(&self) -> Result<Drops, MapError> {
        let mut drops = Counter::DROPS.map(|counter| (counter, 0));
        for (counter, total) in &mut drops {
            *total = self.count(*counter)?;
        }
        Ok(drops)
    }

    pub(super) fn count(&self, counter: Counter) -> Result<u64, MapError> {
        Ok(self.0.get(&(counter as u32), 0)?.iter().sum())
    }
}
