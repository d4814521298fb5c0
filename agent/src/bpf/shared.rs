//! Maps that the agent has in its own memory: a store there costs no system call and does not
//! overwrite what the kernel side wrote beside it.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
};

use remora_common::control::{Control, VERDICT_SLOTS, verdict, verdict_slot};

/// A mapping of a `BPF_F_MMAPABLE` array's values, or of a ring's positions.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory is shared with the kernel anyway and only touched through atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(map: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        Self::at(map, 0, len, libc::PROT_READ | libc::PROT_WRITE)
    }

    fn at(map: BorrowedFd<'_>, offset: usize, len: usize, protection: i32) -> io::Result<Self> {
        // SAFETY: a fresh mapping of a descriptor that is open for the call.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                offset as libc::off_t,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start: NonNull::new(start.cast()).expect("mmap never maps page 0"), len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `len` are what `mmap` gave; nothing borrows from it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// The selection table: one byte of [`remora_common::target`] flags per tgid.
#[derive(Debug)]
pub(super) struct TargetBytes(Mapping);

impl TargetBytes {
    pub(super) fn new(map: BorrowedFd<'_>, tgids: usize) -> io::Result<Self> {
        Mapping::new(map, tgids).map(Self)
    }

    fn byte(&self, tgid: u32) -> Option<&AtomicU8> {
        // SAFETY: within the mapping; the kernel side loads and stores single bytes as well.
        ((tgid as usize) < self.0.len)
            .then(|| unsafe { self.0.start.add(tgid as usize).cast::<AtomicU8>().as_ref() })
    }

    /// Sets the flags of `tgid`; `false` if the table has no such tgid.
    pub(super) fn set(&self, tgid: u32, flags: u8) -> bool {
        self.byte(tgid).map(|byte| byte.store(flags, Ordering::Release)).is_some()
    }

    /// Sets the flags of `tgid` to what `change` makes of them, unless it makes nothing of them. What the kernel side stores
    /// meanwhile is changed, too, and what it stores later stays.
    pub(super) fn change(&self, tgid: u32, change: impl FnMut(u8) -> Option<u8>) {
        if let Some(byte) = self.byte(tgid) {
            let _ = byte.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
        }
    }

    pub(super) fn get(&self, tgid: u32) -> u8 {
        self.byte(tgid).map_or(0, |byte| byte.load(Ordering::Acquire))
    }

    /// One more than the largest tgid.
    pub(super) fn len(&self) -> u32 {
        self.0.len as u32
    }
}

/// The control words.
#[derive(Debug)]
pub struct ControlWords(Mapping);

impl ControlWords {
    pub(super) fn new(map: BorrowedFd<'_>) -> io::Result<Self> {
        Mapping::new(map, size_of::<Control>()).map(Self)
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        debug_assert!(offset + 4 <= self.0.len);
        // SAFETY: `offset` is that of a `u32` member of `Control`, within the mapping and aligned.
        unsafe { self.0.start.add(offset).cast::<AtomicU32>().as_ref() }
    }

    /// The next record shall wake the reader.
    pub fn reader_sleeps(&self, sleeps: bool) {
        self.word(std::mem::offset_of!(Control, reader_sleeps))
            .store(u32::from(sleeps), Ordering::SeqCst);
    }

    /// Which news of unselected processes are wanted: exec, listen.
    pub fn watch(&self, exec: bool, listen: bool) {
        self.word(std::mem::offset_of!(Control, watch_exec))
            .store(u32::from(exec), Ordering::Release);
        self.word(std::mem::offset_of!(Control, watch_listen))
            .store(u32::from(listen), Ordering::Release);
    }
}

/// Advice to the kernel side on how to capture single connections.
#[derive(Debug)]
pub struct Verdicts(Mapping);

impl Verdicts {
    pub(super) fn new(map: BorrowedFd<'_>) -> io::Result<Self> {
        Mapping::new(map, VERDICT_SLOTS as usize * 8).map(Self)
    }

    /// Advises `policy`, one of [`remora_common::policy`], for `conn_id`.
    pub fn advise(&self, conn_id: u64, policy: u8) {
        let slot = verdict_slot(conn_id) as usize;
        // SAFETY: a slot is below `VERDICT_SLOTS`, so within the mapping, and aligned to 8.
        let word = unsafe { self.0.start.cast::<AtomicU64>().add(slot).as_ref() };
        word.store(verdict(conn_id, policy), Ordering::Release);
    }
}

/// How far a ring's producers and its consumer are, to tell how full it is.
#[derive(Debug)]
pub(super) struct RingPositions {
    consumer: Mapping,
    producer: Mapping,
}

impl RingPositions {
    /// A ring's first page is the consumer's, its second the producers' (kernel/bpf/ringbuf.c).
    pub(super) fn new(map: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: a plain question.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).map_err(|_| io::Error::last_os_error())?;
        Ok(Self {
            consumer: Mapping::at(map, 0, page, libc::PROT_READ)?,
            producer: Mapping::at(map, page, page, libc::PROT_READ)?,
        })
    }

    /// Bytes that wait to be read.
    pub(super) fn waiting(&self) -> u64 {
        let position = |mapping: &Mapping| {
            // SAFETY: the page begins with the position, an aligned word that the kernel side
            // (kernel or consumer) stores whole.
            unsafe { mapping.start.cast::<AtomicU64>().as_ref() }.load(Ordering::Relaxed)
        };
        let consumed = position(&self.consumer);
        position(&self.producer).saturating_sub(consumed)
    }
}
