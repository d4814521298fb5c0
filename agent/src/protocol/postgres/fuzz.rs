//! What holds for any bytes that are taken for messages.

use super::{
    MAX_TEXT, Replies, Reply, Request, Requests, Text, looks_like_replies, looks_like_requests,
    may_end, opens, tail,
};
use crate::protocol::{
    Next, Parse, Place,
    replay::{self, Reader, Recorder},
    sql::{Dialect, mask},
};

/// A direction, from where it begins.
macro_rules! direction {
    ($name:ident, $reader:ident, $begin:expr, $told:ident) => {
        #[derive(Debug)]
        pub(super) struct $name($reader);

        impl Default for $name {
            fn default() -> Self {
                Self($begin)
            }
        }

        impl Reader for $name {
            fn next(
                &mut self,
                bytes: &[u8],
                used: &mut usize,
                keep: &mut Recorder<'_>,
            ) -> Next<(Place, String)> {
                $told(self.0.next(bytes, used, keep))
            }

            fn skip(&mut self, len: u64) -> Next<(Place, String)> {
                $told(self.0.skip(len))
            }

            fn open(&self) -> Option<Option<usize>> {
                self.0.is_open().then(|| self.0.began())
            }
        }
    };
}

direction!(Client, Requests, Requests::new(true), sent);
direction!(JoinedClient, Requests, Requests::new(false), sent);
direction!(Server, Replies, Replies::default(), answered);
direction!(AskedServer, Replies, asked(), answered);

/// Of a server whose client asked for encryption.
fn asked() -> Replies {
    let mut replies = Replies::default();
    replies.expect_answer();
    replies
}

/// A text without its literals, which a recording does not have.
fn masked(text: Text<'_>) -> String {
    assert!(text.bytes.len() <= MAX_TEXT + 256);
    let mut to = vec![0; text.bytes.len()];
    mask::mask(
        text.bytes,
        Dialect::Postgres,
        0,
        0,
        &mut Recorder { from: text.bytes, to: &mut to },
    );
    format!("{} {}", to.escape_ascii(), text.is_cut)
}

fn sent(next: Next<(Request<'_>, Place)>) -> Next<(Place, String)> {
    match next {
        Next::Message((request, place)) => {
            let told = match request {
                Request::Query(text) => format!("query {}", masked(text)),
                Request::Parse { statement, text } => {
                    format!("parse {statement:?} {}", masked(text))
                }
                other => format!("{other:?}"),
            };
            Next::Message((place, told))
        }
        Next::More => Next::More,
        Next::Lost(why) => Next::Lost(why),
    }
}

fn answered(next: Next<(Reply<'_>, Place)>) -> Next<(Place, String)> {
    match next {
        Next::Message((reply, place)) => Next::Message((place, format!("{reply:?}"))),
        Next::More => Next::More,
        Next::Lost(why) => Next::Lost(why),
    }
}

pub(crate) fn requests(bytes: &[u8]) {
    replay::fuzz::<Client>(bytes);
    replay::fuzz::<JoinedClient>(bytes);
    if looks_like_requests(bytes) {
        assert!(matches!(opens(bytes), Parse::NotThis(_)));
    }
    if let Parse::Parsed { used, .. } = opens(bytes) {
        assert!(used >= 8 && used <= bytes.len());
    }
}

pub(crate) fn replies(bytes: &[u8]) {
    replay::fuzz::<Server>(bytes);
    replay::fuzz::<AskedServer>(bytes);
    assert!(!looks_like_replies(bytes) || tail(bytes).is_some());
    assert!(may_end(bytes) <= bytes.len());
    if let Some(end) = tail(bytes) {
        assert!(end.at + 6 <= bytes.len());
        assert_eq!(tail(&bytes[end.at..]), Some(super::Tail { at: 0, ..end }));
        // Whoever has seen only a part of it expects the rest.
        for cut in end.at + 1..bytes.len() {
            assert!(may_end(&bytes[end.at..cut]) > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    /// What psql and pgbench say to a real server, and what it answers (tests/data/postgres).
    const CAPTURES: [(&[u8], &[u8]); 3] = [
        (
            include_bytes!("../../../../tests/data/postgres/psql.client"),
            include_bytes!("../../../../tests/data/postgres/psql.server"),
        ),
        (
            include_bytes!("../../../../tests/data/postgres/extended.client"),
            include_bytes!("../../../../tests/data/postgres/extended.server"),
        ),
        (
            include_bytes!("../../../../tests/data/postgres/prepared.client"),
            include_bytes!("../../../../tests/data/postgres/prepared.server"),
        ),
    ];

    #[test]
    fn real_sessions_are_read_to_their_last_byte_however_they_are_cut() {
        for (client, server) in CAPTURES {
            for cut in [1, 2, 7, 60, 1000] {
                let cuts = |bytes: &[u8]| (0..bytes.len()).step_by(cut).collect::<Vec<_>>();
                replay::claims::<Client>(client, &cuts(client), 0..0);
                replay::claims::<AskedServer>(server, &cuts(server), 0..0);
            }
            let (said, _) = replay::read::<Client>(&replay::pieces(client, &[]));
            assert_eq!((said.lost, said.open), (None, None));
            let (said, _) = replay::read::<AskedServer>(&replay::pieces(server, &[]));
            assert_eq!((said.lost, said.open), (None, None));
        }
    }

    proptest! {
        #![proptest_config(crate::properties::config(300))]

        #[test]
        fn what_is_said_of_real_sessions_with_holes_is_true(
            which in 0_usize..3,
            cuts in vec(any::<Index>(), 0..4),
            from in any::<Index>(),
            len in 1_usize..3000,
        ) {
            let (client, server) = CAPTURES[which];
            let cut = |bytes: &[u8]| cuts.iter().map(|at| at.index(bytes.len())).collect::<Vec<_>>();
            let from_client = from.index(client.len());
            replay::claims::<Client>(client, &cut(client), from_client..from_client + len);
            let from_server = from.index(server.len());
            replay::claims::<AskedServer>(server, &cut(server), from_server..from_server + len);
        }

        /// Bodies that no client or server would send, also.
        #[test]
        fn any_bodies_are_read_alike_in_any_pieces(
            messages in vec(
                (
                    prop::sample::select(&b"123ACDEGHIKNRSTVWZcdnstvBFPQXfp"[..]),
                    vec(prop::sample::select(&b"\0\0\x01SC'x"[..]), 0..24),
                ),
                0..8,
            ),
            cuts in vec(0_usize..200, 0..4),
            hole in 0_usize..200,
        ) {
            let mut bytes = Vec::new();
            for (tag, body) in messages {
                bytes.push(tag);
                bytes.extend((body.len() as u32 + 4).to_be_bytes());
                bytes.extend(body);
            }
            replay::claims::<JoinedClient>(&bytes, &cuts, hole..hole + 9);
            replay::claims::<Server>(&bytes, &cuts, hole..hole + 9);
        }

        #[test]
        fn any_bytes_are_read_alike_in_any_pieces(bytes in vec(any::<u8>(), 0..300)) {
            requests(&bytes);
            replies(&bytes);
        }
    }
}
