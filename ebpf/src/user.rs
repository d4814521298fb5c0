//! Memory of the traced process: buffers and scatter-gather lists; and how what was found there is
//! kept from the verifier, which would follow each value apart.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user};
use remora_common::counter::Counter;

use crate::{
    maps,
    moved::{Layout, Moved},
};

/// Buffers of a scatter-gather list that are looked at in one run of a program.
pub const PIECES: u32 = 16;

/// Copies `want` bytes of user memory, all or nothing.
#[inline(always)]
pub fn flat(content: *mut u8, base: u64, want: u32) -> u32 {
    // SAFETY: the helper checks the source; `want` is at most the sample's room.
    let result = unsafe { bpf_probe_read_user(content.cast(), want, base as *const _) };
    if result == 0 { want } else { 0 }
}

/// Copies `want` bytes of a scatter-gather list from `skip` on, as far as [`PIECES`] go; or of one buffer.
#[inline(always)]
pub fn gather<const SOURCE: u8, const MOST: usize>(
    content: *mut u8,
    slack: *mut u64,
    moved: &Moved,
    skip: u32,
    want: u32,
) -> u32 {
    if moved.layout::<SOURCE>() != Layout::Pieces {
        // SAFETY: the caller's slack. VERIFIER: what the caller knows of `want` is lost on the way here before Linux 6.
        let len = unsafe { forget(slack, want.into()) };
        if len > MOST as u64 {
            return 0;
        }
        return flat(content, moved.base.wrapping_add(u64::from(skip)), len as u32);
    }
    let mut skip = u64::from(skip);
    let mut done = 0u64;
    let mut at = 0;
    while at < PIECES as usize {
        // SAFETY: the caller's slack.
        (done, skip) = unsafe { (forget(slack, done), forget(slack, skip)) };
        if done >= u64::from(want) || at as u32 >= moved.count {
            break;
        }
        let Some([base, len]) = read_user::<[u64; 2]>(moved.base + at as u64 * 16) else {
            break;
        };
        at += 1;
        // Bytes of this piece that are behind `skip`, none if it lies before it.
        let before = if skip < len { skip } else { len };
        skip -= before;
        let left = u64::from(want) - done;
        let mut len = len - before;
        if len > left {
            len = left;
        }
        // SAFETY: the caller's slack.
        let len = unsafe { forget(slack, len) };
        // VERIFIER: place and length are each at most `MOST`, the room is twice that.
        if len > MOST as u64 {
            break;
        }
        // Forgotten for the compiler, which would leave out the mask: it knows `done < want`, but a
        // kernel before 6.8 does not learn from comparing two unknown values.
        // SAFETY: the caller's slack.
        let place = unsafe { forget(slack, done) } as usize & (MOST - 1);
        let source = base.wrapping_add(before) as *const _;
        // SAFETY: `place + len <= 2 * MOST`, the room.
        if unsafe { bpf_probe_read_user(content.add(place).cast(), len as u32, source) } != 0 {
            break;
        }
        done += len;
    }
    // SAFETY: the caller's slack.
    let done = unsafe { forget(slack, done) } as u32;
    if done < want && moved.count > PIECES {
        maps::count(Counter::PiecesCut);
    }
    // VERIFIER: the bound was forgotten too.
    if done > want { want } else { done }
}

/// The same value, of which the verifier knows nothing any more: the kernel wrote it. Without this
/// it would follow every combination of values on its own.
#[inline(always)]
pub fn launder<T: Copy>(value: &mut T) {
    let address = core::ptr::from_mut(value);
    // SAFETY: `size_of::<T>()` bytes of a live value are copied onto themselves.
    unsafe {
        bpf_probe_read_kernel(address.cast(), size_of::<T>() as u32, address.cast_const().cast())
    };
}

/// The same value, of which the verifier knows nothing any more: it went through memory. Without
/// this it would follow every value that the offset of a later access can have, each apart.
///
/// # Safety
/// `slack` points to eight bytes of our own.
#[inline(always)]
pub unsafe fn forget(slack: *mut u64, value: u64) -> u64 {
    // SAFETY: by this function's contract.
    unsafe {
        slack.write_volatile(value);
        slack.read_volatile()
    }
}

/// The first eight bytes of the call's buffer in memory order, zeros where there are fewer.
#[inline(always)]
pub fn first_bytes<const SOURCE: u8>(moved: &Moved) -> u64 {
    let (base, len) = first_piece::<SOURCE>(moved);
    short_read(base, len)
}

/// Where the first bytes of the call's buffer are, and how many lie together there.
#[inline(always)]
pub fn first_piece<const SOURCE: u8>(moved: &Moved) -> (u64, u64) {
    match moved.layout::<SOURCE>() {
        Layout::Flat => (moved.base, moved.len),
        Layout::Pieces => match read_user::<[u64; 2]>(moved.base) {
            Some([base, len]) => (base, len.min(moved.len)),
            None => (0, 0),
        },
        Layout::Nowhere => (0, 0),
    }
}

/// The last eight bytes of the call's buffer in memory order, right-aligned; of a scatter-gather list
/// at most the bytes of the last piece that was used.
#[inline(always)]
pub fn last_bytes<const SOURCE: u8>(moved: &Moved) -> Option<u64> {
    let (base, len) = if moved.layout::<SOURCE>() == Layout::Pieces {
        let mut left = moved.len;
        let mut found = (0, 0);
        let mut at = 0;
        while at < PIECES as usize && (at as u32) < moved.count {
            let [base, len] = read_user::<[u64; 2]>(moved.base + at as u64 * 16)?;
            if left <= len {
                found = (base, left);
                break;
            }
            left -= len;
            at += 1;
        }
        found
    } else {
        (moved.base, moved.len)
    };
    if len >= 8 {
        read_user::<u64>(base.wrapping_add(len - 8))
    } else if len > 0 {
        Some(short_read(base, len) << ((8 - (len & 7)) * 8))
    } else {
        None
    }
}

/// Up to eight bytes at `base`, zero-extended, of the `len` that are there; `None` if they cannot be read.
#[inline(always)]
pub fn peek(base: u64, len: u64) -> Option<u64> {
    let mut word = 0u64;
    let len = if len > 8 { 8 } else { len as u32 };
    // SAFETY: at most eight bytes are written to `word`; the helper checks the source.
    let result = unsafe { bpf_probe_read_user((&raw mut word).cast(), len, base as *const _) };
    (result == 0).then_some(word)
}

/// Up to eight bytes at `base`, zero-extended.
#[inline(always)]
fn short_read(base: u64, len: u64) -> u64 {
    let mut word = 0u64;
    let len = if len > 8 { 8 } else { len as u32 };
    // SAFETY: at most eight bytes are written to `word`; the helper checks the source.
    unsafe { bpf_probe_read_user((&raw mut word).cast(), len, base as *const _) };
    word
}

/// A `T` in user memory.
#[inline(always)]
pub fn read_user<T: Copy>(address: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes `size_of::<T>()` bytes or fails; it checks the source.
    unsafe {
        let size = size_of::<T>() as u32;
        if bpf_probe_read_user(value.as_mut_ptr().cast(), size, address as *const _) != 0 {
            return None;
        }
        Some(value.assume_init())
    }
}
