//! The books of export. For every destination and signal, at every moment:
//! `accepted = exported + dropped{reason} + queued`. The unit is the span, or the metric data point.

use super::otlp::Signal;

/// Why a span or a data point that was accepted did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The queue needs room: the oldest goes.
    QueueFull,
    /// Alone longer than a request may be.
    TooLarge,
    /// The destination refused the request for good.
    Refused,
    /// The destination took the request but not this part of it (OTLP partial success).
    PartlyRefused,
    /// The file could not be written.
    WriteFailed,
    /// Still waiting when time was up at the end.
    Shutdown,
}

impl DropReason {
    /// All reasons, in the order they are printed.
    pub const ALL: [Self; 6] = [
        Self::QueueFull,
        Self::TooLarge,
        Self::Refused,
        Self::PartlyRefused,
        Self::WriteFailed,
        Self::Shutdown,
    ];

    /// The value of the `reason` attribute.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
            Self::PartlyRefused => "partly_refused",
            Self::WriteFailed => "write_failed",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Counts by reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Dropped([u64; DropReason::ALL.len()]);

impl Dropped {
    #[must_use]
    pub const fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    pub(super) const fn add(&mut self, reason: DropReason, items: u64) {
        self.0[reason as usize] += items;
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.into_iter().zip(self.0)
    }
}

/// Kind of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// A collector.
    Otlp,
    /// `--otlp-file`
    File,
}

impl Destination {
    /// The value of the `destination` attribute.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Otlp => "otlp",
            Self::File => "file",
        }
    }
}

/// One destination's account of one signal. All but the `queued` ones only ever grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneStats {
    pub signal: Signal,
    pub destination: Destination,
    pub accepted: u64,
    pub exported: u64,
    pub dropped: Dropped,
    /// Accepted, neither exported nor dropped yet: in the open request, in the queue, on the wire.
    pub queued: u64,
    /// Bytes in the queue; the open request is not among them.
    pub queued_bytes: usize,
    /// Attempts that failed and were, or will be, repeated.
    pub failed_attempts: u64,
}

impl LaneStats {
    /// Whether the account closes.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.accepted == self.exported + self.dropped.total() + self.queued
    }
}
