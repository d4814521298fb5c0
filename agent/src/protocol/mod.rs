//! What the bytes of a protocol mean: pure, total functions on `&[u8]` that never panic, never
//! allocate without bound and know nothing of records, clocks or spans.

pub mod chunked;
pub mod http1;

/// What a parser can say about the bytes at the start of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse<T, R> {
    /// The first `used` bytes are a `value`.
    Parsed { value: T, used: usize },
    /// All of the input may be the beginning of one.
    NeedMore,
    /// It is none, however it goes on.
    NotThis(R),
}
