//! From a head to what an exchange keeps of it, whatever the version. Values that no span carries are not copied;
//! credentials are among them.

use crate::exchange::HttpExchange;

/// Longest value that is kept of a target, and of any other field, bytes. Longer ones are cut.
const MAX_TARGET_LEN: usize = 16 << 10;
const MAX_VALUE_LEN: usize = 1024;

/// A request's head. Of a field that occurs more than once it has the first.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::assemble) struct RequestHead<'a> {
    pub(in crate::assemble) method: &'a [u8],
    pub(in crate::assemble) target: &'a [u8],
    pub(in crate::assemble) version: (u8, u8),
    pub(in crate::assemble) host: Option<&'a [u8]>,
    pub(in crate::assemble) user_agent: Option<&'a [u8]>,
    pub(in crate::assemble) forwarded: Option<&'a [u8]>,
    pub(in crate::assemble) x_forwarded_for: Option<&'a [u8]>,
    pub(in crate::assemble) x_forwarded_proto: Option<&'a [u8]>,
    /// Bytes of the head.
    pub(in crate::assemble) len: u64,
}

impl RequestHead<'_> {
    /// How many of the values that [`Self::describe`] keeps are longer than what is kept of them.
    pub(in crate::assemble) fn values_cut(&self) -> u64 {
        let values = [self.host, self.user_agent, self.forwarded, self.x_forwarded_for];
        let long = values.into_iter().flatten().filter(|value| value.len() > MAX_VALUE_LEN).count();
        long as u64 + u64::from(self.target.len() > MAX_TARGET_LEN)
    }

    /// The request's part of an exchange.
    pub(in crate::assemble) fn describe(&self) -> Box<HttpExchange> {
        let forwarded = self.forwarded.map(Forwarded::parse).unwrap_or_default();
        let told = |list: Option<&[u8]>| list.and_then(first).map(value);
        Box::new(HttpExchange {
            method: text(self.method, MAX_VALUE_LEN),
            target: text(self.target, MAX_TARGET_LEN),
            version: self.version,
            host: self.host.map(value),
            user_agent: self.user_agent.map(value),
            forwarded_for: forwarded.r#for.map(value).or_else(|| told(self.x_forwarded_for)),
            forwarded_proto: forwarded.proto.map(value).or_else(|| told(self.x_forwarded_proto)),
            request_head_len: u32::try_from(self.len).unwrap_or(u32::MAX),
            ..HttpExchange::default()
        })
    }
}

/// `for` and `proto` of the first element of a `Forwarded` field (RFC 7239 section 4).
#[derive(Default)]
struct Forwarded<'a> {
    r#for: Option<&'a [u8]>,
    proto: Option<&'a [u8]>,
}

impl<'a> Forwarded<'a> {
    fn parse(value: &'a [u8]) -> Self {
        let mut forwarded = Self::default();
        let element = first(value).unwrap_or_default();
        for pair in element.split(|&byte| byte == b';') {
            let Some(equals) = memchr::memchr(b'=', pair) else { continue };
            let name = pair[..equals].trim_ascii();
            let value = unquoted(pair[equals + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"for") {
                forwarded.r#for = Some(value);
            } else if name.eq_ignore_ascii_case(b"proto") {
                forwarded.proto = Some(value);
            }
        }
        forwarded
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

/// The first member of a comma-separated list.
fn first(list: &[u8]) -> Option<&[u8]> {
    let member = list.split(|&byte| byte == b',').next()?.trim_ascii();
    (!member.is_empty()).then_some(member)
}

pub(super) fn value(bytes: &[u8]) -> Box<str> {
    text(bytes, MAX_VALUE_LEN)
}

fn text(bytes: &[u8], max_len: usize) -> Box<str> {
    let bytes = &bytes[..bytes.len().min(max_len)];
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => String::from_utf8_lossy(bytes).into(),
    }
}
