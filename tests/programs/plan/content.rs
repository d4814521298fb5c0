//! Content of a given size, in pieces; chunked unless its size is told.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};

static PIECE: [u8; 4096] = [b'x'; 4096];

/// `G` is dropped as soon as the content is not needed any more.
pub(crate) struct Content<G> {
    left: usize,
    sized: bool,
    _guard: G,
}

impl<G> Content<G> {
    pub(crate) fn new(size: usize, sized: bool, guard: G) -> Self {
        Self { left: size, sized, _guard: guard }
    }
}

impl<G: Unpin> Body for Content<G> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let size = self.left.min(PIECE.len());
        self.left -= size;
        Poll::Ready((size > 0).then(|| Ok(Frame::data(Bytes::from_static(&PIECE[..size])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        if self.sized { SizeHint::with_exact(self.left as u64) } else { SizeHint::default() }
    }
}
