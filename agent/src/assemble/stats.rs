//! The books of reassembly: each record is counted once, and so is each exchange.

/// The books of reassembly. `parsed` and the records after it add up to the records that were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stats {
    /// Records whose bytes took part in an exchange, or told of a connection.
    pub parsed: u64,
    /// Data records of connections that are not HTTP/1, or not any more.
    pub records_other_protocol: u64,
    /// Data records between a loss and the next message that could be recognised.
    pub records_skipped: u64,
    /// Data records whose bytes were known already.
    pub records_duplicate: u64,
    /// Data records without bytes, or at impossible positions.
    pub records_empty: u64,
    /// Records of connections beyond the limit.
    pub records_refused: u64,
    /// Records that are of no concern here (processes, listeners), or of connections that are gone.
    pub records_elsewhere: u64,

    /// Connections begun, and those that were ended by the agent: idle, or to stop.
    pub connections: u64,
    pub connections_evicted: u64,
    /// Those of them that were idle.
    pub connections_idle: u64,
    /// Connections found not to be HTTP/1.
    pub connections_other_protocol: u64,
    /// Application bytes of all data records, and those of them that were captured.
    pub bytes: u64,
    pub bytes_captured: u64,
    /// Heads that were cut because all that wait for more took too much memory.
    pub heads_cut: u64,
    /// Records of connections whose protocol is not known, of bytes that moved where no program sees their content.
    pub beginnings_not_shown: u64,
    /// Targets and values of fields that were longer than what is kept of them.
    pub values_cut: u64,
    /// Holes in positions, and the bytes that fell into them.
    pub gaps: u64,
    pub gap_bytes: u64,

    /// Exchanges announced, finished, and lost; the lost include some that were never announced.
    pub started: u64,
    pub finished: u64,
    pub lost: u64,
}

impl Stats {
    /// Records that took no part in an exchange, by reason; with `parsed` these are all.
    #[must_use]
    pub const fn ignored(&self) -> [(&'static str, u64); 6] {
        [
            ("other_protocol", self.records_other_protocol),
            ("skipped", self.records_skipped),
            ("duplicate", self.records_duplicate),
            ("empty", self.records_empty),
            ("refused", self.records_refused),
            ("elsewhere", self.records_elsewhere),
        ]
    }

    /// All records, each counted in one column.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.parsed + self.ignored().iter().map(|(_, count)| count).sum::<u64>()
    }
}
