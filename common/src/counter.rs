//! Per-CPU counters the kernel programs keep, indexed by [`Counter`]. "Nothing is lost silently":
//! every path on which a program gives up on a byte or a record adds to one of these. What the ring
//! carries is counted by its reader. Two more tell how full the connection map is, which the kernel
//! itself does not say.

/// Index into the `COUNTERS` per-CPU array.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Records dropped: the ring had no room.
    RingFull = 0,
    /// Calls on connections that are not tracked: the connection map was full.
    ConnectionsFull = 1,
    /// Fragments whose user memory could not be read (counted with their position all the same).
    Unreadable = 2,
    /// Calls whose arguments were not remembered: the entry table was full (tracepoint door only).
    EntriesFull = 3,
    /// TLS calls that could not be tied to a connection.
    TlsUnlinked = 4,
    /// Scatter-gather calls with more pieces than are walked; the rest was counted, not copied.
    PiecesCut = 5,
    /// Entries made in the connection map; not a drop.
    ConnectionsAdded = 6,
    /// Entries removed from the connection map; not a drop.
    ConnectionsRemoved = 7,
    /// Connections that were forgotten before they ended, for the place of one whose end nothing tells of (Unix sockets at the
    /// socket door) was needed.
    ConnectionsEvicted = 8,
    /// Objects of a TLS library that turned out to encrypt another connection than was taken for theirs.
    TlsMismatched = 9,
}

impl Counter {
    /// Number of counters, the size of the map.
    pub const COUNT: u32 = 10;

    /// Those that count what was given up, in index order.
    pub const DROPS: [Self; 8] = [
        Self::RingFull,
        Self::ConnectionsFull,
        Self::Unreadable,
        Self::EntriesFull,
        Self::TlsUnlinked,
        Self::PiecesCut,
        Self::ConnectionsEvicted,
        Self::TlsMismatched,
    ];

    /// The value of the `reason` attribute.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::ConnectionsFull => "connections_full",
            Self::Unreadable => "unreadable",
            Self::EntriesFull => "entries_full",
            Self::TlsUnlinked => "tls_unlinked",
            Self::PiecesCut => "pieces_cut",
            Self::ConnectionsAdded => "connections_added",
            Self::ConnectionsRemoved => "connections_removed",
            Self::ConnectionsEvicted => "connections_evicted",
            Self::TlsMismatched => "tls_mismatched",
        }
    }
}
