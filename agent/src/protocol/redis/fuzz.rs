//! What holds for any bytes that are taken for commands or replies.

use super::{Commands, Replies, looks_like_commands, looks_like_replies};
use crate::protocol::{
    Next, Parse, Place,
    replay::{self, Reader, Recorder},
};

impl Reader for Commands {
    fn next(
        &mut self,
        bytes: &[u8],
        used: &mut usize,
        keep: &mut Recorder<'_>,
    ) -> Next<(Place, String)> {
        told(Self::next(self, bytes, used, keep))
    }

    fn skip(&mut self, len: u64) -> Next<(Place, String)> {
        told(Self::skip(self, len))
    }

    fn open(&self) -> Option<Option<usize>> {
        self.is_open().then(|| self.began())
    }
}

fn told(next: Next<super::Command<'_>>) -> Next<(Place, String)> {
    match next {
        Next::Message(command) => {
            let mut text = String::new();
            command.query_text(&mut text);
            // Sixteen arguments, escaped.
            assert!(text.len() < 2048 + 4 * 128, "{text}");
            let arguments: Vec<_> = command.arguments().collect();
            assert!(arguments.len() <= command.argument_count() as usize);
            let name = (command.name(), command.kind(), command.argument_count());
            Next::Message((command.place, format!("{text} {name:?} {arguments:?}")))
        }
        Next::More => Next::More,
        Next::Lost(why) => Next::Lost(why),
    }
}

impl Reader for Replies {
    fn next(
        &mut self,
        bytes: &[u8],
        used: &mut usize,
        keep: &mut Recorder<'_>,
    ) -> Next<(Place, String)> {
        told_reply(Self::next(self, bytes, used, keep))
    }

    fn skip(&mut self, len: u64) -> Next<(Place, String)> {
        told_reply(Self::skip(self, len))
    }

    fn open(&self) -> Option<Option<usize>> {
        self.is_open().then(|| self.began())
    }
}

fn told_reply(next: Next<super::Reply<'_>>) -> Next<(Place, String)> {
    match next {
        Next::Message(reply) => {
            let text = format!(
                "{:?} {:?} {:?} {} {}",
                reply.kind, reply.code, reply.word, reply.elements, reply.errors
            );
            Next::Message((reply.place, text))
        }
        Next::More => Next::More,
        Next::Lost(why) => Next::Lost(why),
    }
}

pub(crate) fn commands(bytes: &[u8]) {
    replay::fuzz::<Commands>(bytes);
    let bytes = bytes.get(5..).unwrap_or_default();
    if let Parse::Parsed { used, .. } = looks_like_commands(bytes) {
        assert!(used <= bytes.len());
        // What is recognised is read.
        let (mut commands, mut at) = (Commands::default(), 0);
        let next = Commands::next(&mut commands, &bytes[..used], &mut at, &mut ());
        assert!(!matches!(next, Next::Lost(_)));
        assert!(!matches!(looks_like_commands(&bytes[..used - 1]), Parse::Parsed { .. }));
    }
}

pub(crate) fn replies(bytes: &[u8]) {
    replay::fuzz::<Replies>(bytes);
    let bytes = bytes.get(5..).unwrap_or_default();
    if let Parse::Parsed { used, .. } = looks_like_replies(bytes) {
        assert!(used <= bytes.len());
    }
}
