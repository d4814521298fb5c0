//! Reads the ring in batches. While there is traffic the reader looks every [`PERIOD`] and the kernel
//! side wakes nobody; after [`IDLE_AFTER`] without a record it asks to be woken and sleeps.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use aya::maps::{MapData, RingBuf};

use super::shared::{ControlWords, RingPositions};

/// How long records may wait in the ring while there is traffic.
pub const PERIOD: Duration = Duration::from_millis(10);
/// How long without records until the reader sleeps.
const IDLE_AFTER: Duration = Duration::from_millis(500);
/// How long the reader sleeps at most, so that time-outs of the stages behind it are noticed.
const IDLE_PERIOD: Duration = Duration::from_secs(1);

/// Wakes a [`Reader`] from another thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed; a non-negative result is a descriptor that is ours.
        let fd = unsafe {
            let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self(Arc::new(fd)))
    }

    /// Ends the reader's current or next wait.
    pub fn wake(&self) {
        let one = 1u64;
        // SAFETY: eight bytes of a live value; the counter saturating is as good as a wake-up.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }
}

/// The consumer of the ring.
pub struct Reader {
    ring: RingBuf<MapData>,
    epoll: OwnedFd,
    waker: Waker,
    last_record: Instant,
    positions: RingPositions,
    /// Most bytes that waited at once, since somebody asked.
    peak: u64,
}

impl Reader {
    pub(super) fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        // SAFETY: no memory is passed; a non-negative result is a descriptor that is ours.
        let epoll = unsafe {
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let waker = Waker::new()?;
        // Edge-triggered: only a wake-up that a program chose to send ends a wait, not the mere
        // presence of data, which would turn batches into single records.
        for fd in [ring.as_raw_fd(), waker.0.as_raw_fd()] {
            let mut interest =
                libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 0 };
            // SAFETY: all descriptors are open, `interest` lives through the call.
            let result = unsafe {
                libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut interest)
            };
            if result < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: `ring` is open and lives through the call.
        let fd = unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) };
        let positions = RingPositions::new(fd)?;
        Ok(Self { ring, epoll, waker, last_record: Instant::now(), positions, peak: 0 })
    }

    /// A handle that ends waits.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Hands every record that is in the ring now to `take`, at most `most`; returns how many.
    pub fn drain(&mut self, most: usize, mut take: impl FnMut(&[u8])) -> usize {
        self.peak = self.peak.max(self.positions.waiting());
        let mut count = 0;
        while count < most
            && let Some(item) = self.ring.next()
        {
            take(&item);
            count += 1;
        }
        if count > 0 {
            self.last_record = Instant::now();
        }
        count
    }

    /// Most bytes that waited in the ring at once since this was last asked.
    pub fn take_peak(&mut self) -> u64 {
        std::mem::take(&mut self.peak)
    }

    /// Waits until there may be records again, somebody woke us, or a period passed.
    pub fn wait(&mut self, control: &ControlWords) {
        if self.last_record.elapsed() < IDLE_AFTER {
            self.poll(PERIOD);
            return;
        }
        control.reader_sleeps(true);
        // A record may have come before the programs saw that we sleep: look once more, briefly.
        self.poll(PERIOD);
        if self.ring_is_empty() {
            self.poll(IDLE_PERIOD);
        }
        control.reader_sleeps(false);
    }

    fn ring_is_empty(&self) -> bool {
        let mut ring = libc::pollfd { fd: self.ring.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live structure.
        unsafe { libc::poll(&raw mut ring, 1, 0) == 0 }
    }

    fn poll(&self, timeout: Duration) {
        let mut ready = [libc::epoll_event { events: 0, u64: 0 }; 2];
        // SAFETY: room for two events; an interrupted wait is as good as one that ended.
        unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                ready.as_mut_ptr(),
                ready.len() as i32,
                timeout.as_millis() as i32,
            )
        };
    }
}
