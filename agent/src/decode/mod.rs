//! From a ring sample to a [`Record`] that borrows from it. Samples come from the kernel or from a
//! recording; either way they are checked, never trusted.

use remora_common::record::{
    self, Close, CloseCause, Direction, Kind, Listen, Open, Process, ProcessChange, Role, Source,
    Stream,
};
use zerocopy::FromBytes;

/// One record with its enums checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Record<'a> {
    Data(Data<'a>),
    Open { role: Role, open: &'a Open },
    Close { cause: CloseCause, close: &'a Close },
    Process { change: ProcessChange, process: &'a Process },
    Listen(&'a Listen),
    Stream(&'a Stream),
}

/// A [`record::Data`] with its content.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Data<'a> {
    pub direction: Direction,
    pub source: Source,
    pub header: &'a record::Data,
    /// The first `header.head_len` of the fragment's `header.total_len` bytes.
    pub head: &'a [u8],
}

/// Why a sample is not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("empty sample")]
    Empty,
    #[error("record kind {0}, expected 1 to 6")]
    Kind(u8),
    #[error(
        "{kind:?} record of {found} bytes (or misaligned), expected at least {expected} aligned to 8"
    )]
    Length { kind: Kind, found: usize, expected: usize },
    #[error("{field} {found} of a {kind:?} record is not a known value")]
    Value { kind: Kind, field: &'static str, found: u8 },
    #[error("{found} bytes of content, expected head_len {head_len} <= total_len {total_len}")]
    Content { found: usize, head_len: u32, total_len: u32 },
}

impl<'a> Record<'a> {
    /// Reads the record at the start of `sample`, which must be aligned to 8 bytes as ring samples
    /// are; what follows the record is ignored.
    ///
    /// # Errors
    /// [`DecodeError`] says which field is wrong; no record is partly decoded.
    pub fn decode(sample: &'a [u8]) -> Result<Self, DecodeError> {
        let &byte = sample.first().ok_or(DecodeError::Empty)?;
        let kind = Kind::from_byte(byte).ok_or(DecodeError::Kind(byte))?;
        let value = |field, found| DecodeError::Value { kind, field, found };
        match kind {
            Kind::Data => {
                let (header, content) = prefix::<record::Data>(kind, sample)?;
                let head = usize::try_from(header.head_len)
                    .ok()
                    .filter(|_| header.head_len <= header.total_len)
                    .and_then(|len| content.get(..len))
                    .ok_or(DecodeError::Content {
                        found: content.len(),
                        head_len: header.head_len,
                        total_len: header.total_len,
                    })?;
                Ok(Self::Data(Data {
                    direction: Direction::from_byte(header.direction)
                        .ok_or(value("direction", header.direction))?,
                    source: Source::from_byte(header.source)
                        .ok_or(value("source", header.source))?,
                    header,
                    head,
                }))
            }
            Kind::Open => {
                let (open, _) = prefix::<Open>(kind, sample)?;
                let role = Role::from_byte(open.role).ok_or(value("role", open.role))?;
                Ok(Self::Open { role, open })
            }
            Kind::Close => {
                let (close, _) = prefix::<Close>(kind, sample)?;
                let cause =
                    CloseCause::from_byte(close.cause).ok_or(value("cause", close.cause))?;
                Ok(Self::Close { cause, close })
            }
            Kind::Process => {
                let (process, _) = prefix::<Process>(kind, sample)?;
                let change = ProcessChange::from_byte(process.change)
                    .ok_or(value("change", process.change))?;
                Ok(Self::Process { change, process })
            }
            Kind::Listen => Ok(Self::Listen(prefix::<Listen>(kind, sample)?.0)),
            Kind::Stream => Ok(Self::Stream(prefix::<Stream>(kind, sample)?.0)),
        }
    }

    /// When what it tells of happened, `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn mono_ns(&self) -> u64 {
        match self {
            Self::Data(data) => data.header.mono_ns,
            Self::Open { open, .. } => open.mono_ns,
            Self::Close { close, .. } => close.mono_ns,
            Self::Process { process, .. } => process.mono_ns,
            Self::Listen(listen) => listen.mono_ns,
            Self::Stream(stream) => stream.mono_ns,
        }
    }
}

fn prefix<T>(kind: Kind, sample: &[u8]) -> Result<(&T, &[u8]), DecodeError>
where
    T: FromBytes + zerocopy::Immutable + zerocopy::KnownLayout,
{
    T::ref_from_prefix(sample).map_err(|_| DecodeError::Length {
        kind,
        found: sample.len(),
        expected: size_of::<T>(),
    })
}
