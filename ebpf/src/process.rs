//! What is kept of processes, and what the agent is told of them.

use aya_ebpf::helpers::generated::bpf_get_current_comm;
use remora_common::{
    record::{Kind, Process, ProcessChange},
    target,
};

use crate::{emit, maps};

/// What was said of the old program image is to be said again of the new one.
pub fn said_of_image(tgid: u32, selection: u8) {
    if selection & target::SPEAKS_TLS != 0
        && let Some(byte) = maps::target(tgid)
    {
        // SAFETY: a byte of the table.
        unsafe { byte.write_volatile(selection & !target::SPEAKS_TLS) };
    }
}

/// Says, once for each program image, that a selected process moves ciphertext outside of the calls
/// that are probed: its library was mapped lately, or is not one that is read.
pub fn speaks_tls(tgid: u32) {
    let selection = maps::selection(tgid);
    if selection & target::SPEAKS_TLS == 0
        && let Some(byte) = maps::target(tgid)
    {
        // SAFETY: a byte of the table.
        unsafe { byte.write_volatile(selection | target::SPEAKS_TLS) };
        report(ProcessChange::SpeaksTls, tgid, 0, selection);
    }
}

pub fn report(change: ProcessChange, tgid: u32, parent_tgid: u32, selection: u8) {
    let Some(mut entry) = emit::reserve::<Process>() else { return };
    let process = entry.as_mut_ptr();
    // SAFETY: `process` points to reserved ring memory of the record's size; all of it is written, in
    // place: a whole record would not fit on the stack beside what the callers have there.
    unsafe {
        (*process).kind = Kind::Process as u8;
        (*process).change = change as u8;
        (*process).selection = selection;
        (*process).reserved = 0;
        (*process).tgid = tgid;
        (*process).parent_tgid = parent_tgid;
        (*process).reserved2 = 0;
        (*process).mono_ns = emit::now();
        let comm = &raw mut (*process).comm;
        bpf_get_current_comm(comm.cast(), size_of_val(&*comm) as u32);
    }
    emit::submit_urgent(entry);
}
