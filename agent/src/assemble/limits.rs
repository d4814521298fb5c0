//! What bounds the state of reassembly, and its values if nothing is configured.

/// What bounds the state of reassembly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections followed at a time; records of others are counted.
    pub max_connections: usize,
    /// Requests of one connection that wait for their response.
    pub max_open_per_connection: usize,
    /// How long an end that nothing has confirmed yet is waited with.
    pub end_grace_ns: u64,
    /// Without a byte for this long a connection is forgotten on which nothing is open.
    pub idle_ns: u64,
    /// Likewise one with open exchanges, which are lost.
    pub exchange_idle_ns: u64,
    /// How long more of a request is waited for after its response.
    pub content_grace_ns: u64,
    /// A pipelined connection that lost records is trusted again after a silence this long.
    pub resync_idle_ns: u64,
    /// Longest head that is put together from several records, bytes.
    pub max_head_len: usize,
    /// All heads together that wait for more, bytes.
    pub max_heads_len: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 32_768,
            max_open_per_connection: 128,
            end_grace_ns: 20_000_000,
            idle_ns: 900_000_000_000,
            exchange_idle_ns: 86_400_000_000_000,
            content_grace_ns: 1_000_000_000,
            resync_idle_ns: 1_000_000_000,
            max_head_len: 64 << 10,
            max_heads_len: 32 << 20,
        }
    }
}
