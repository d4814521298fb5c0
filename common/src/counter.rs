//! Per-CPU counters the kernel programs keep, indexed by [`Counter`]. "Nothing is lost silently":
//! every path on which a program gives up on a byte or a record adds to one of these.

/// Index into the `COUNTERS` per-CPU array.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Records submitted to the ring.
    Records = 0,
    /// Application bytes seen on captured connections, copied or not.
    BytesSeen = 1,
    /// Application bytes copied into records.
    BytesCopied = 2,
    /// Records dropped: the ring had no room.
    DropRingFull = 3,
    /// Connections not tracked: the connection map was full.
    DropConnectionsFull = 4,
    /// Fragments whose user memory could not be read (counted with their position all the same).
    DropUnreadable = 5,
    /// Calls whose arguments were not remembered: the entry table was full (tracepoint door only).
    DropEntriesFull = 6,
    /// TLS calls that could not be tied to a connection.
    DropTlsUnlinked = 7,
    /// Processes whose selection could not be inherited.
    DropTargetsFull = 8,
    /// Scatter-gather calls with more pieces than are walked; the rest was counted, not copied.
    CutPieces = 9,
}

impl Counter {
    /// Number of counters, the size of the map.
    pub const COUNT: u32 = 10;

    /// All counters in index order.
    pub const ALL: [Self; Self::COUNT as usize] = [
        Self::Records,
        Self::BytesSeen,
        Self::BytesCopied,
        Self::DropRingFull,
        Self::DropConnectionsFull,
        Self::DropUnreadable,
        Self::DropEntriesFull,
        Self::DropTlsUnlinked,
        Self::DropTargetsFull,
        Self::CutPieces,
    ];
}
