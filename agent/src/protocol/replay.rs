//! For tests and fuzzing: a reader is given bytes whole, in pieces, with holes, and as a recording keeps them. What it
//! says has to be the same.

use std::ops::Range;

use super::{Keep, Next, Place, Unframed};

/// A reader of one direction, with messages as text.
pub(crate) trait Reader: Default {
    fn next(
        &mut self,
        bytes: &[u8],
        used: &mut usize,
        keep: &mut Recorder<'_>,
    ) -> Next<(Place, String)>;
    fn skip(&mut self, len: u64) -> Next<(Place, String)>;
    /// Where the open message began, if one is open; `Some(None)`: in bytes before.
    fn open(&self) -> Option<Option<usize>>;
}

/// A recording of one piece.
pub(crate) struct Recorder<'a> {
    pub(crate) from: &'a [u8],
    pub(crate) to: &'a mut [u8],
}

impl Keep for Recorder<'_> {
    fn keep(&mut self, range: Range<usize>) {
        self.told_once(range.clone());
        self.to[range.clone()].copy_from_slice(&self.from[range]);
    }

    fn mask(&mut self, range: Range<usize>, byte: u8) {
        self.told_once(range.clone());
        self.to[range].fill(byte);
    }
}

impl Recorder<'_> {
    fn told_once(&self, range: Range<usize>) {
        assert!(self.to[range.clone()].iter().all(|kept| *kept == 0), "{range:?} is told of twice");
    }
}

/// What a direction of a connection consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Bytes(Vec<u8>),
    Hole(u64),
}

/// What a reader said: where messages begin and end, and what they are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) messages: Vec<(Range<u64>, String)>,
    pub(crate) lost: Option<Unframed>,
    /// Where the message begins that did not end.
    pub(crate) open: Option<u64>,
}

/// What a reader says of `pieces`, and what a recording keeps of them.
pub(crate) fn read<R: Reader>(pieces: &[Piece]) -> (Said, Vec<Piece>) {
    let mut reader = R::default();
    let (mut said, mut kept, mut position) = (Said::default(), Vec::new(), 0_u64);
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => {
                let mut to = vec![0; bytes.len()];
                let mut keep = Recorder { from: bytes, to: &mut to };
                let mut used = 0;
                while said.lost.is_none() {
                    match reader.next(bytes, &mut used, &mut keep) {
                        Next::Message((place, text)) => {
                            assert_eq!(place.end, used);
                            said.message(position, place, text);
                        }
                        Next::More => {
                            assert_eq!(used, bytes.len());
                            break;
                        }
                        Next::Lost(why) => said.lost = Some(why),
                    }
                }
                said.open(position, reader.open());
                position += bytes.len() as u64;
                kept.push(Piece::Bytes(to));
            }
            Piece::Hole(len) => {
                let mut next = reader.skip(*len);
                if let Next::Message((place, text)) = next {
                    // Its end lies somewhere in the hole.
                    assert_eq!((place.begin, place.end), (None, 0));
                    said.hidden(place.len, text);
                    next = reader.skip(0);
                }
                match next {
                    Next::Message(_) => panic!("a hole ends one message"),
                    Next::More => {}
                    Next::Lost(why) => said.lost = Some(said.lost.unwrap_or(why)),
                }
                said.open(position, reader.open());
                position += len;
                kept.push(Piece::Hole(*len));
            }
        }
    }
    (said, kept)
}

impl Said {
    fn message(&mut self, position: u64, place: Place, text: String) {
        let end = position + place.end as u64;
        let begin = end - place.len;
        match place.begin {
            Some(at) => assert_eq!(position + at as u64, begin),
            None => assert!(begin < position && self.open == Some(begin), "{self:?} {begin}"),
        }
        self.open = None;
        self.messages.push((begin..end, text));
    }

    fn hidden(&mut self, len: u64, text: String) {
        let begin = self.open.take().expect("it began before the hole");
        self.messages.push((begin..begin + len, text));
    }

    fn open(&mut self, position: u64, open: Option<Option<usize>>) {
        self.open = match open {
            Some(Some(at)) => Some(position + at as u64),
            Some(None) => self.open,
            None => None,
        };
    }
}

/// `bytes` in pieces that end at `cuts`, in any order; those beyond the end count from the start again.
pub(crate) fn pieces(bytes: &[u8], cuts: &[usize]) -> Vec<Piece> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| Piece::Bytes(bytes[pair[0]..pair[1]].to_vec())).collect()
}

/// The claims that hold for any bytes.
pub(crate) fn claims<R: Reader>(bytes: &[u8], cuts: &[usize], hole: Range<usize>) {
    let (whole, kept) = read::<R>(&pieces(bytes, &[]));
    assert_eq!(read::<R>(&kept).0, whole, "as recorded");
    assert_eq!(read::<R>(&kept).1, kept, "recorded again");
    let (in_pieces, kept) = read::<R>(&pieces(bytes, cuts));
    assert_eq!(in_pieces, whole, "in pieces");
    assert_eq!(read::<R>(&kept).0, whole, "as recorded in pieces");
    // A hole hides, but invents nothing.
    let (from, to) = (hole.start.min(bytes.len()), hole.end.min(bytes.len()));
    if from < to {
        let with_hole = [
            Piece::Bytes(bytes[..from].to_vec()),
            Piece::Hole((to - from) as u64),
            Piece::Bytes(bytes[to..].to_vec()),
        ];
        let (said, kept) = read::<R>(&with_hole);
        assert_eq!(read::<R>(&kept).0, said, "as recorded with a hole");
        // Beyond what is malformed anything may follow.
        if whole.lost.is_some() {
            return;
        }
        for ((range, _), (known, _)) in said.messages.iter().zip(&whole.messages) {
            assert_eq!(range, known, "{said:?} {whole:?}");
        }
        if said.lost.is_none() {
            assert_eq!(said.messages.len(), whole.messages.len(), "{said:?} {whole:?}");
        }
    }
}

/// The first bytes say where the others are cut, and where they are not captured.
pub(crate) fn fuzz<R: Reader>(bytes: &[u8]) {
    let [a, b, c, from, len, bytes @ ..] = bytes else { return };
    let [a, b, c, from, len] = [*a, *b, *c, *from, *len].map(usize::from);
    claims::<R>(bytes, &[a, b, c, a + b], from..from + len);
}
