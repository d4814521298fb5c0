//! What holds for any bytes that are taken for frames, and for any that are taken for a header block.

use std::fmt::Write as _;

use super::{
    Fields, Head, Known, Message, Reader, frame::code_name, frames, hpack::Decoder,
    looks_like_settings, opens,
};
use crate::protocol::{
    Next, Unframed,
    replay::{Piece, Recorder, pieces},
};

/// Longest block that is read here.
const MAX_BLOCK: usize = 4096;

/// Fields that spans are made of, without the values that a recording may not have.
pub(super) fn told(fields: &Fields) -> String {
    let mut text = String::new();
    for (name, value) in fields.lines() {
        let Some(known) = Known::of(name) else { continue };
        let value = if known.may_hide() { &b"?"[..] } else { value };
        let value = String::from_utf8_lossy(value);
        write!(text, "{known:?}={value};").expect("a String takes everything");
    }
    format!("{text} {} {}", fields.has_unknown(), fields.is_cut())
}

fn message(message: &Message<'_>) -> String {
    match message {
        Message::Head(Head { stream, ends_stream, promised, fields, len, malformed, .. }) => {
            let fields = told(fields);
            format!("{stream} {ends_stream} {promised} {len} {malformed} {fields}")
        }
        other => format!("{other:?}"),
    }
}

/// What a reader said of pieces, content of one frame together, and what a recording keeps of them.
pub(super) fn read(
    mut reader: Reader,
    pieces: &[Piece],
) -> (Vec<String>, Option<Unframed>, Vec<Piece>) {
    let (mut said, mut kept, mut lost) = (Vec::new(), Vec::new(), None);
    let mut content: Option<(u32, u64)> = None;
    let mut take = |next: &Message<'_>, said: &mut Vec<String>| match *next {
        Message::Content { stream, len, ended } => {
            let open = content.get_or_insert((stream, 0));
            if open.0 != stream {
                said.push(format!("{open:?}"));
                *open = (stream, 0);
            }
            open.1 += len;
            if ended {
                said.push(format!("{:?} ended", content.take()));
            }
        }
        _ => {
            said.extend(content.take().map(|open| format!("{open:?}")));
            said.push(message(next));
        }
    };
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => {
                let mut to = vec![0; bytes.len()];
                let mut keep = Recorder { from: bytes, to: &mut to };
                let mut used = 0;
                reader.next_piece();
                while lost.is_none() {
                    match reader.next(bytes, &mut used, &mut keep) {
                        Next::Message(message) => take(&message, &mut said),
                        Next::More => {
                            assert_eq!(used, bytes.len());
                            break;
                        }
                        Next::Lost(why) => lost = Some(why),
                    }
                }
                kept.push(Piece::Bytes(to));
            }
            Piece::Hole(len) => {
                let mut next = reader.skip(*len);
                if let Next::Message(message) = &next {
                    take(message, &mut said);
                    next = reader.skip(0);
                }
                match next {
                    Next::Message(_) => panic!("a hole tells of one thing"),
                    Next::More => {}
                    Next::Lost(why) => lost = lost.or(Some(why)),
                }
                kept.push(Piece::Hole(*len));
            }
        }
    }
    said.extend(content.map(|open| format!("{open:?}")));
    (said, lost, kept)
}

/// The first bytes say how a connection's direction begins, where the others are cut, and where they are not captured.
pub(crate) fn reader(bytes: &[u8]) {
    let [kind, a, b, c, from, len, bytes @ ..] = bytes else { return };
    let cuts = [*a, *b, *c, a.wrapping_add(*b)].map(usize::from);
    let (from, len) = (usize::from(*from), usize::from(*len));
    claims(kind & 1 != 0, kind & 2 != 0, bytes, &cuts, from..from + len);
    let _ = (opens(bytes), code_name((*kind).into()));
    assert!(!looks_like_settings(bytes) || frames(bytes).is_some());
}

/// In pieces, and as a recording has them, the same is said; a hole hides, but invents nothing.
pub(super) fn claims(
    preface: bool,
    begins: bool,
    bytes: &[u8],
    cuts: &[usize],
    hole: std::ops::Range<usize>,
) {
    let new = || Reader::new(preface, begins, MAX_BLOCK);
    let (whole, lost, kept) = read(new(), &pieces(bytes, &[]));
    let again = read(new(), &kept);
    assert_eq!((&again.0, again.1), (&whole, lost), "as recorded");
    assert_eq!(again.2, kept, "recorded again");
    let (in_pieces, lost_in_pieces, kept) = read(new(), &pieces(bytes, cuts));
    assert_eq!((&in_pieces, lost_in_pieces), (&whole, lost), "in pieces");
    let again = read(new(), &kept);
    assert_eq!((again.0, again.1), (whole, lost), "as recorded in pieces");
    let (from, to) = (hole.start.min(bytes.len()), hole.end.min(bytes.len()));
    if from < to {
        let pieces = [
            Piece::Bytes(bytes[..from].to_vec()),
            Piece::Hole((to - from) as u64),
            Piece::Bytes(bytes[to..].to_vec()),
        ];
        let (said, lost, kept) = read(new(), &pieces);
        let again = read(new(), &kept);
        assert_eq!((again.0, again.1), (said, lost), "as recorded with a hole");
    }
}

/// Blocks one after the other, each with its length before it; the first byte says whether the table is known.
pub(crate) fn blocks(bytes: &[u8]) {
    let [begins, rest @ ..] = bytes else { return };
    let begins = begins & 1 != 0;
    let (mut whole, mut in_two) = (Decoder::new(begins), Decoder::new(begins));
    let mut rest = rest;
    while let [len, more @ ..] = rest {
        let (block, after) = more.split_at(usize::from(*len).min(more.len()));
        rest = after;
        let (mut fields, mut others) = (Fields::default(), Fields::default());
        let told_whole = whole.feed(block, 0, block.len(), &mut (), &mut fields);
        let cut = block.len() / 2;
        let mut told_in_two = in_two.feed(block, 0, cut, &mut (), &mut others);
        if told_in_two.is_ok() {
            told_in_two = in_two.feed(block, cut, block.len(), &mut (), &mut others);
        }
        assert_eq!(told_in_two, told_whole);
        assert_eq!(in_two.ends(), whole.ends());
        assert_eq!(told(&others), told(&fields));
        if told_whole.is_err() {
            return;
        }
    }
}
