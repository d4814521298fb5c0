//! Reads the frames of one direction. Of DATA only the length counts; header blocks are decoded as they come; of what else
//! there is a reset and a `GOAWAY` mean something, the rest is stepped over.

use super::{
    fields::Fields,
    frame::{self, FrameHead, HEAD_LEN},
    hpack::Decoder,
    message::{Head, Message},
    recognise::PREFACE,
};
use crate::protocol::{Keep, Next, Unframed};

/// Where the next byte falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the client's preface, behind so many bytes of it.
    Preface(u8),
    /// In a frame's head, or before it.
    Head,
    Payload,
    /// Behind frames that mean nothing, and were stepped over by somebody else: nothing is known before [`Reader::restart`].
    Passed,
    Lost(Unframed),
}

/// A header block whose end has not come.
#[derive(Clone, Copy, Debug)]
struct Block {
    stream: u32,
    ends_stream: bool,
    promised: bool,
    len: u64,
    began_here: bool,
    /// What follows cannot be decoded.
    cut: bool,
    malformed: bool,
}

/// Reads one direction.
#[derive(Debug)]
pub struct Reader {
    state: State,
    /// The head in progress, and how much of it there is.
    head: [u8; HEAD_LEN],
    have: u8,
    frame: FrameHead,
    /// Payload that has not come, and how much of that is padding.
    left: u32,
    padding: u32,
    /// Bytes of the prefix that have not come.
    prefix: u8,
    /// The beginning of a payload that is a number or two.
    numbers: [u8; 8],
    numbers_len: u8,
    block: Option<Block>,
    /// The frame in progress, or its head, began in the bytes that were given last.
    began_here: bool,
    decoder: Decoder,
    fields: Fields,
    max_block: u64,
}

impl Reader {
    /// `preface`: a client's, from its first byte on. `begins`: nothing came before. A block longer than `max_block` bytes
    /// is read up to there.
    #[must_use]
    pub fn new(preface: bool, begins: bool, max_block: usize) -> Self {
        Self {
            state: if preface { State::Preface(0) } else { State::Head },
            head: [0; HEAD_LEN],
            have: 0,
            frame: FrameHead::default(),
            left: 0,
            padding: 0,
            prefix: 0,
            numbers: [0; 8],
            numbers_len: 0,
            block: None,
            began_here: false,
            decoder: Decoder::new(begins),
            fields: Fields::default(),
            max_block: max_block as u64,
        }
    }

    /// The next byte begins a frame. `missed`: frames that mean something may have been lost before it.
    pub fn restart(&mut self, missed: bool) {
        if missed {
            self.decoder.forget();
        }
        (self.state, self.have, self.block) = (State::Head, 0, None);
    }

    /// Whether a frame or a block has begun that has not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == State::Payload || self.have > 0 || self.block.is_some()
    }

    /// Whether [`Self::restart`] has to say where the next frame begins, and nothing is lost before it.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.state == State::Passed
    }

    /// Whether what is open began in the bytes that were given last.
    #[must_use]
    pub fn began_here(&self) -> bool {
        self.block.map_or(self.began_here, |block| block.began_here)
    }

    /// Other bytes will be given from here on.
    pub fn next_piece(&mut self) {
        self.began_here = false;
        if let Some(block) = &mut self.block {
            block.began_here = false;
        }
    }

    /// Goes on by what `bytes` hold from `used` on, up to something that means anything.
    pub fn next(
        &mut self,
        bytes: &[u8],
        used: &mut usize,
        keep: &mut impl Keep,
    ) -> Next<Message<'_>> {
        loop {
            let rest = &bytes[*used..];
            match self.state {
                State::Lost(why) => return Next::Lost(why),
                State::Payload => {}
                State::Passed => {
                    *used = bytes.len();
                    return Next::More;
                }
                _ if rest.is_empty() => return Next::More,
                State::Preface(have) => {
                    let expected = &PREFACE[usize::from(have)..];
                    let common = rest.len().min(expected.len());
                    keep.keep(*used..*used + common);
                    *used += common;
                    if rest[..common] != expected[..common] {
                        return self.lose(Unframed::Malformed);
                    }
                    self.state = match common == expected.len() {
                        true => State::Head,
                        false => State::Preface(have + common as u8),
                    };
                    continue;
                }
                State::Head => {
                    let have = usize::from(self.have);
                    let step = rest.len().min(HEAD_LEN - have);
                    self.began_here |= have == 0;
                    keep.keep(*used..*used + step);
                    self.head[have..have + step].copy_from_slice(&rest[..step]);
                    self.have += step as u8;
                    *used += step;
                    if have + step < HEAD_LEN {
                        return Next::More;
                    }
                    if !self.begin() {
                        return self.lose(Unframed::Malformed);
                    }
                }
            }
            let before = *used;
            if let Some(message) = self.payload(bytes, used, keep) {
                return Next::Message(self.tell(message));
            }
            if self.state == State::Payload && *used == before {
                return Next::More;
            }
        }
    }

    /// Goes on by `len` bytes that were not captured: by a message at most, and then whether framing was lost is for a
    /// `skip` of 0 bytes to tell.
    pub fn skip(&mut self, len: u64) -> Next<Message<'_>> {
        match self.state {
            State::Lost(why) => return Next::Lost(why),
            _ if len == 0 => return Next::More,
            State::Preface(_) | State::Head | State::Passed => return self.lose(Unframed::Hole),
            State::Payload => {}
        }
        let step = u64::from(self.left).min(len) as u32;
        let message = self.pass(step);
        if len > u64::from(step) {
            self.state = State::Lost(Unframed::Hole);
            self.have = 0;
        }
        match message.or_else(|| self.cut_off()) {
            Some(message) => Next::Message(self.tell(message)),
            None => match self.state {
                State::Lost(why) => Next::Lost(why),
                _ => Next::More,
            },
        }
    }

    /// As [`Self::skip`], where whoever captures knows the frames, and has left out nothing but content and frames that mean
    /// nothing: framing is not lost, and [`Self::restart`] says where it goes on.
    pub fn step_over(&mut self, len: u64) -> Next<Message<'_>> {
        let step = match self.state {
            State::Payload => u64::from(self.left).min(len),
            State::Head if self.block.is_none() => 0,
            State::Passed => return Next::More,
            _ => return self.skip(len),
        };
        let message = if step > 0 { self.pass(step as u32) } else { None };
        if len > step && self.block.is_none() {
            (self.state, self.have) = (State::Passed, 0);
        }
        match message {
            Some(message) => Next::Message(self.tell(message)),
            None => Next::More,
        }
    }

    fn lose(&mut self, why: Unframed) -> Next<Message<'_>> {
        (self.state, self.have) = (State::Lost(why), 0);
        match self.cut_off() {
            Some(message) => Next::Message(self.tell(message)),
            None => Next::Lost(why),
        }
    }

    /// A block that is open when framing is lost ends there.
    fn cut_off(&mut self) -> Option<Told> {
        let State::Lost(_) = self.state else { return None };
        self.cut_block();
        self.block.take().map(Told::Head)
    }

    /// A frame's head has come; whether it may be one.
    fn begin(&mut self) -> bool {
        self.frame = FrameHead::read(self.head);
        self.have = 0;
        let frame = self.frame;
        let goes_on = self.block.is_some_and(|block| block.stream == frame.stream);
        let in_order = (frame.kind == frame::CONTINUATION) == self.block.is_some()
            && (self.block.is_none() || goes_on);
        if !frame.is_valid() || !in_order || frame.len < frame.prefix_len().into() {
            return false;
        }
        if matches!(frame.kind, frame::HEADERS | frame::PUSH_PROMISE) {
            self.fields.clear();
            self.block = Some(Block {
                stream: frame.stream,
                ends_stream: frame.ends_stream(),
                promised: frame.kind == frame::PUSH_PROMISE,
                len: 0,
                began_here: self.began_here,
                cut: false,
                malformed: false,
            });
        }
        self.state = State::Payload;
        (self.left, self.padding, self.prefix) = (frame.len, 0, frame.prefix_len());
        self.numbers_len = 0;
        true
    }

    /// Goes on in a payload.
    fn payload(&mut self, bytes: &[u8], used: &mut usize, keep: &mut impl Keep) -> Option<Told> {
        let rest = &bytes[*used..];
        if self.prefix > 0 && !rest.is_empty() {
            // The first byte, if there is padding, says how much.
            if self.frame.is_padded() && self.prefix == self.frame.prefix_len() {
                keep.keep(*used..*used + 1);
                let after = self.left - u32::from(self.prefix);
                self.padding = u32::from(rest[0]).min(after);
            }
            self.prefix -= 1;
            self.left -= 1;
            *used += 1;
            return self.ended();
        }
        let step = (self.left as usize).min(rest.len());
        let range = *used..*used + step;
        match self.frame.kind {
            frame::HEADERS | frame::CONTINUATION | frame::PUSH_PROMISE => {
                let content = (self.left - self.padding.min(self.left)) as usize;
                self.block_bytes(bytes, range.start, range.start + step.min(content), keep);
            }
            frame::RST_STREAM | frame::GOAWAY => {
                let have = usize::from(self.numbers_len);
                let take = step.min(8 - have);
                keep.keep(range.start..range.start + take);
                self.numbers[have..have + take].copy_from_slice(&rest[..take]);
                self.numbers_len += take as u8;
            }
            _ => {}
        }
        *used += step;
        self.advance(step as u32)
    }

    /// `len` bytes of the payload were not captured.
    fn pass(&mut self, len: u32) -> Option<Told> {
        let prefix = u32::from(self.prefix).min(len);
        self.prefix -= prefix as u8;
        self.left -= prefix;
        if self.block.is_some() && len > 0 {
            self.cut_block();
        }
        if len > 0 && usize::from(self.numbers_len) < self.numbers.len() {
            self.numbers_len = 0;
        }
        self.advance(len - prefix)
    }

    fn advance(&mut self, len: u32) -> Option<Told> {
        let content_left = self.left - self.padding.min(self.left);
        self.left -= len;
        if self.frame.kind == frame::DATA {
            let content = len.min(content_left);
            let frame_ended = self.frame_ended();
            let ended = frame_ended && self.frame.ends_stream();
            return (content > 0 || ended).then_some(Told::Content(content.into(), ended));
        }
        self.ended()
    }

    fn frame_ended(&mut self) -> bool {
        let ended = self.left == 0 && self.state == State::Payload;
        if ended {
            self.state = State::Head;
            self.began_here = false;
        }
        ended
    }

    fn ended(&mut self) -> Option<Told> {
        if !self.frame_ended() {
            return None;
        }
        match self.frame.kind {
            frame::DATA => self.frame.ends_stream().then_some(Told::Content(0, true)),
            frame::HEADERS | frame::CONTINUATION | frame::PUSH_PROMISE
                if self.frame.ends_block() =>
            {
                if !self.decoder.ends() {
                    self.cut_block();
                }
                self.block.take().map(Told::Head)
            }
            frame::RST_STREAM => Some(Told::Reset),
            frame::GOAWAY => Some(Told::GoAway),
            _ => None,
        }
    }

    fn block_bytes(&mut self, bytes: &[u8], from: usize, to: usize, keep: &mut impl Keep) {
        let Some(block) = &mut self.block else { return };
        block.len += (to - from) as u64;
        if block.cut {
            return;
        }
        let too_long = block.len > self.max_block;
        if !too_long && self.decoder.feed(bytes, from, to, keep, &mut self.fields).is_ok() {
            return;
        }
        block.malformed = !too_long;
        self.cut_block();
    }

    /// What follows of the block cannot be read, and so the table behind it is unknown.
    fn cut_block(&mut self) {
        let Some(block) = &mut self.block else { return };
        if !block.cut {
            block.cut = true;
            self.decoder.forget();
            self.fields.cut();
        }
    }

    fn number(&self, at: usize) -> Option<u32> {
        let bytes = self.numbers.get(at..at + 4)?;
        let whole = usize::from(self.numbers_len) >= at + 4;
        whole.then(|| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn tell(&self, told: Told) -> Message<'_> {
        let stream = self.frame.stream;
        match told {
            Told::Head(block) => Message::Head(Head {
                stream: block.stream,
                ends_stream: block.ends_stream,
                promised: block.promised,
                fields: &self.fields,
                len: block.len,
                began_here: block.began_here,
                malformed: block.malformed,
            }),
            Told::Content(len, ended) => Message::Content { stream, len, ended },
            Told::Reset => Message::Reset { stream, code: self.number(0) },
            Told::GoAway => Message::GoAway {
                last_stream: self.number(0).map(|stream| stream & 0x7fff_ffff),
                code: self.number(4),
            },
        }
    }
}

/// As [`Message`], without what the reader has.
#[derive(Clone, Copy, Debug)]
enum Told {
    Head(Block),
    Content(u64, bool),
    Reset,
    GoAway,
}
